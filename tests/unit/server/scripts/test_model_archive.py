"""Handlers of model archives: what they get, the forms that name them, and the stand-in of their base class."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from server.artifact import Artifact
from server.errors import BrokenArtifact, MalformedInput
from server.models.layouts.archive import open_archive
from server.scripts.call import Call
from server.scripts.loaded_script import LoadedScript, ScriptConfig
from server.scripts.model_archive import inputs_of
from tests import onnx_graphs
from tests.onnx_graphs import perceptron

REAL = Path(__file__).parents[1] / "models" / "layouts" / "archiver-0.12.0.mar"
"""Made by torch-model-archiver 0.12.0: a handler derived from BaseHandler, an ONNX model, its labels and its config."""

ECHO = """
def handle(data, context):
    if data is None:
        return None
    return [{"got": sorted(one), "body": str(one.get("body"))} for one in data]

def other(data, context):
    return data and ["other"] * len(data)

class First:
    def initialize(self, context):
        self.seen = [context.manifest["model"]["modelName"], context.system_properties["batch_size"]]
        self.seen.append(context.model_yaml_config.get("handler"))
    def handle(self, data, context):
        return [self.seen for _ in data]

class NoHandler: ...
value = 7
"""


def call(body: bytes = b"", content_type: str = "") -> Call:
    media, _, _ = content_type.partition(";")
    headers = [(b"Content-Type", content_type.encode())] if content_type else []
    return Call(body, media or "application/json", "application/json", headers)


def archived(folder: Path, handler: str, config: str = "") -> Artifact:
    model = {"modelName": "m", "handler": handler, **({"configFile": "c.yaml"} if config else {})}
    with zipfile.ZipFile(folder / "m.mar", "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
        packed.writestr("handler.py", ECHO)
        if config:
            packed.writestr("c.yaml", config)
    return open_archive(folder / "m.mar", scripts=True)


def loaded(artifact: Artifact) -> LoadedScript:
    handler = artifact.declaration.handler
    assert handler is not None
    assert artifact.script is not None
    return LoadedScript(
        artifact, ScriptConfig(artifact.script, handler.attribute, batch_size=handler.batch_size, archive=True)
    )


def answers(script: LoadedScript, *calls: Call) -> list[Any]:
    responses = script.run(calls)
    assert [one.error for one in responses] == [None] * len(calls)
    return [json.loads(one.body) for one in responses]


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("handler.py", {"got": ["body"], "body": "{'a': 1}"}),
        ("handler", {"got": ["body"], "body": "{'a': 1}"}),
        ("handler:handle", {"got": ["body"], "body": "{'a': 1}"}),
        ("handler.py:First", ["m", 3, {"k": [1, "x"]}]),
    ],
)
def test_every_form_that_names_a_handler(handler: str, expected: Any, tmp_path: Path) -> None:
    script = loaded(archived(tmp_path, handler, "batchSize: 3\nhandler:\n  k: [1, x]\n"))
    try:
        assert script.most_calls == 3
        assert answers(script, call(b'{"a": 1}', "application/json")) == [expected]
    finally:
        script.close()


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        ("handler:gone", "has no 'gone', which MAR-INF/MANIFEST.json names"),
        ("handler:NoHandler", "'NoHandler', which MAR-INF/MANIFEST.json names, has no initialize and handle"),
        ("handler:value", "has no initialize and handle"),
    ],
)
def test_an_entry_that_is_no_handler_is_refused(handler: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match=reason):
        loaded(archived(tmp_path, handler))


def form(*parts: tuple[str, bytes]) -> tuple[bytes, str]:
    body = b"".join(
        b'--frontier\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%b\r\n" % (name.encode(), data)
        for name, data in parts
    )
    return body + b"--frontier--\r\n", "multipart/form-data; boundary=frontier"


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"\xff\x00raw", "", {"body": b"\xff\x00raw"}),
        (b"\xff\x00raw", "image/jpeg", {"body": b"\xff\x00raw"}),
        (b'{"a": [1]}', "application/json", {"body": {"a": [1]}}),
        ("é".encode(), "text/plain; charset=utf-8", {"body": "é"}),
        (b"data=x+y&data=z", "application/x-www-form-urlencoded", {"data": "z"}),
        (*form(("data", b"\x00\r\n\xff"), ("note", b"")), {"data": b"\x00\r\n\xff", "note": b""}),
    ],
)
def test_a_request_is_what_its_content_type_says(body: bytes, content_type: str, expected: dict[str, Any]) -> None:
    assert inputs_of(call(body, content_type)) == expected


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff", "text/plain"),
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary=a"),
        (b"--a\r\n\r\nx\r\n--a--\r\n", "multipart/form-data; boundary=a"),
    ],
)
def test_a_body_that_is_not_what_its_type_says_is_a_clear_error(body: bytes, content_type: str) -> None:
    with pytest.raises(MalformedInput):
        inputs_of(call(body, content_type))


def test_a_malformed_request_alone_gets_the_error_as_its_own(tmp_path: Path) -> None:
    script = loaded(archived(tmp_path, "handler"))
    try:
        (response,) = script.run([call(b"{", "application/json")])
        assert isinstance(response.error, MalformedInput)
    finally:
        script.close()


NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x)
"""
EAGER = """
from ts.torch_handler.base_handler import BaseHandler

class Eager(BaseHandler):
    def preprocess(self, data):
        return super().preprocess([row["body"] for row in data])
"""


def test_weights_are_loaded_into_the_class_of_the_model_file(tmp_path: Path) -> None:
    import torch

    layer = torch.nn.Linear(4, 2)
    torch.save({f"layer.{name}": value for name, value in layer.state_dict().items()}, tmp_path / "w.pt")
    model = {"modelName": "m", "handler": "eager.py", "modelFile": "net.py", "serializedFile": "w.pt"}
    with zipfile.ZipFile(tmp_path / "m.mar", "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
        packed.writestr("eager.py", EAGER)
        packed.writestr("net.py", NET)
        packed.write(tmp_path / "w.pt", "w.pt")
    script = loaded(open_archive(tmp_path / "m.mar", scripts=True))
    try:
        rows = [[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]]
        found = answers(script, *(call(json.dumps(row).encode(), "application/json") for row in rows))
        np.testing.assert_allclose(found, layer(torch.tensor(rows)).tolist(), rtol=1e-5)
    finally:
        script.close()


def test_an_archive_of_the_real_archiver_answers_as_its_model() -> None:
    artifact = open_archive(REAL, scripts=True)
    script = loaded(artifact)
    try:
        rows = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
        session = ort.InferenceSession(str(artifact.root / "model.onnx"))
        (expected,) = session.run(None, {"x": rows})
        found = answers(script, *(call(json.dumps(row.tolist()).encode(), "application/json") for row in rows))
        np.testing.assert_allclose(found, expected * 2.0, rtol=1e-5)
    finally:
        script.close()


def base(tmp_path: Path, model: dict[str, Any]) -> Any:
    """The stand-in of the base handler, initialized for a folder."""
    from server.scripts.context import Context
    from server.scripts.shims.ts.torch_handler.base_handler import BaseHandler

    context = Context("m", {"model_dir": str(tmp_path), "gpu_id": None})
    context.manifest = {"model": model}
    handler = BaseHandler()
    handler.initialize(context)
    return handler


def test_the_base_handler_loads_onnx_with_its_labels(tmp_path: Path) -> None:
    onnx_graphs.save(perceptron, tmp_path / "model.onnx")
    (tmp_path / "index_to_name.json").write_text('{"0": ["n01", "cat"], "1": "dog"}')
    handler = base(tmp_path, {"serializedFile": "model.onnx"})
    assert handler.initialized
    assert handler.mapping == {"0": "cat", "1": "dog"}
    rows = handler.handle([[1.0, 2.0, 3.0, 4.0]] * 2, handler.context)
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3


def test_the_base_handler_loads_torchscript(tmp_path: Path) -> None:
    import torch

    layer = torch.nn.Linear(4, 2)
    expected = layer(torch.ones(1, 4)).tolist()
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated, and still what archives hold
        torch.jit.trace(layer, torch.zeros(1, 4)).save(str(tmp_path / "traced.pt"))  # type: ignore[no-untyped-call]
        handler = base(tmp_path, {"serializedFile": "traced.pt"})
    assert handler.handle([[1.0] * 4], None) == expected


@pytest.mark.parametrize("model", [{}, {"serializedFile": "model.bin"}, {"modelFile": "net.py"}])
def test_an_archive_without_a_model_is_refused_by_the_base_handler(model: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the archive has no"):
        base(tmp_path, model)
