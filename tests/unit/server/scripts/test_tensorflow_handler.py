"""Scripts in the manner of the TensorFlow container, and what the SDK's model builder writes."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from server.artifact import Artifact, Manifest
from server.errors import BrokenArtifact, MalformedInput
from server.scripts.call import SPEC, Call
from server.scripts.loaded_script import LoadedScript, ScriptConfig
from server.scripts.onnx_model import OnnxModel
from server.scripts.script_functions import ModelInfo
from server.scripts.tensorflow_handler import TensorFlowHandler
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.integration import sample_models
from tests.unit.server.scripts.test_script_functions import Load, ask, call, failure, load  # noqa: F401 - a fixture

HANDLER = """
import json
def handler(data, context):
    rows = json.loads(data.read().decode("utf-8"))
    seen = [context.request_content_type, context.accept_header, context.custom_attributes, context.model_name,
            context.rest_uri, context.method, context.content_length]
    return json.dumps([rows, seen]), context.accept_header
"""
AROUND = """
import json
def input_handler(data, context):
    if context.request_content_type != "application/json":
        raise ValueError("unsupported: " + str(context.request_content_type))
    return data.read().decode("utf-8")
def output_handler(data, context):
    if data.status_code != 200:
        raise ValueError(data.content.decode("utf-8"))
    return json.dumps([data.json(), json.loads(data.content) == json.loads(data.text)]), "application/own"
"""


@pytest.fixture
def around(tmp_path: Path) -> LoadedScript:
    model = sample_models.two_and_two(tmp_path / "model.onnx")
    path = tmp_path / "inference.py"
    path.write_text(AROUND)
    artifact = Artifact(tmp_path, Manifest("m", "1", "onnxruntime", model.name, SPEC), declared=False)
    return LoadedScript(artifact, ScriptConfig(path, onnx_model=True))


def test_a_handler_gets_a_stream_and_the_context_that_it_reads(load: Load) -> None:  # noqa: F811
    headers = [(b"x-amzn-sagemaker-custom-attributes", b"trace")]
    response = ask(load(HANDLER), call(headers=headers))
    assert json.loads(response.body) == [
        [1, 2],
        ["application/json", "application/json", "trace", "m", None, "predict", 6],
    ]
    assert response.content_type == "application/json"


def test_two_handlers_stand_around_the_model(around: LoadedScript) -> None:
    rows = [{"a": [1, 2], "b": [3]}, {"a": [0, 0], "b": [1]}]
    response = ask(around, call(json.dumps({"instances": rows}).encode()))
    wanted = [{"sum": [4, 5], "minus": [-3]}, {"sum": [1, 1], "minus": [-1]}]
    assert (response.content_type, json.loads(response.body)) == ("application/own", [{"predictions": wanted}, True])
    columns = {"inputs": {"a": [[1, 2]], "b": [[3]]}}
    assert json.loads(ask(around, call(json.dumps(columns).encode())).body)[0] == {
        "outputs": {"sum": [[4, 5]], "minus": [[-3]]}
    }


@pytest.mark.parametrize("body", [b"[1]", b"{", b'{"instances": [{"a": [1, 2]}, {"b": [1]}]}', b'{"inputs": {"a": 1}}'])
def test_what_does_not_fit_the_model_is_the_clients_mistake(around: LoadedScript, body: bytes) -> None:
    assert isinstance(failure(around, call(body)), MalformedInput)


def test_what_a_handler_raises_names_it(around: LoadedScript) -> None:
    assert "input_handler raised ValueError" in str(failure(around, Call(b"", "text/csv", "a/b")))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def input_handler(d, c): pass", "no output_handler"),
        (AROUND, "put an ONNX model beside"),
        ("def handler(d): pass", "handler takes 1 arguments"),
    ],
)
def test_what_cannot_work_is_refused_at_load(load: Load, text: str, reason: str) -> None:  # noqa: F811
    with pytest.raises(BrokenArtifact, match=reason):
        load(text)


def test_a_logging_handler_is_no_handler(load: Load) -> None:  # noqa: F811
    text = "import logging as l\nhandler = l.StreamHandler()\ndef model_fn(d): return 2\ndef predict_fn(x, m): return m"
    assert ask(load(text)).body == b"2"


BUILT = """
import hashlib, io, json, os, pickle
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
translate = None

def model_fn(model_dir, context=None):
    global translate
    with open(HERE / "serve.pkl", "rb") as file:
        factor, translate = pickle.load(file)
    return partial(lambda data, factor: [factor * one for one in data], factor=factor)

def input_fn(input_data, content_type, context=None):
    data = input_data.encode() if isinstance(input_data, str) else input_data
    return json.load(io.BytesIO(data))

def predict_fn(input_data, predict_callable, context=None):
    return predict_callable(input_data)

def output_fn(predictions, accept_type, context=None):
    return json.dumps({translate: predictions}).encode()

found = hashlib.sha256((HERE / "serve.pkl").read_bytes()).hexdigest()
if found != json.loads((HERE / "metadata.json").read_text())["h"]:
    raise ValueError("the pickle is not the one that was built")
"""


def test_the_form_that_the_sdks_model_builder_writes(load: Load, tmp_path: Path) -> None:  # noqa: F811
    code = tmp_path / "code"
    code.mkdir()
    pickled = pickle.dumps((3, "translated"))
    (code / "serve.pkl").write_bytes(pickled)
    (code / "metadata.json").write_text(json.dumps({"h": hashlib.sha256(pickled).hexdigest()}))
    script = load(BUILT)
    assert ask(script).body == b'{"translated": [3, 6]}'
    (code / "serve.pkl").write_bytes(pickled + b" ")
    with pytest.raises(BrokenArtifact, match="not the one that was built"):
        load(BUILT)


AROUND_TEXTS = """
def input_handler(data, context): return data.read().decode()
def output_handler(response, context): return response.content, "application/json"
"""


def test_base64_goes_to_the_model_as_bytes_and_comes_back_if_it_is_no_text() -> None:
    class Reversing:
        """Texts [any] to their bytes, and bytes that are no text."""

        spec = ModelSpec((TensorSpec("x", BY_NAME["BYTES"], (-1,)),), (TensorSpec("y", BY_NAME["BYTES"], (-1,)),))

        def run(self, batch: Sequence[Array]) -> list[Array]:
            out = np.empty(len(batch[0]), object)
            out[:] = [text.encode("latin-1") for text in batch[0]]
            return [out]

        def close(self) -> None:
            """Nothing."""

    module = ModuleType("inference")
    exec(AROUND_TEXTS, vars(module))
    handler = TensorFlowHandler(module, ModelInfo("m", "/", "1"), OnnxModel(Reversing()))
    sent = json.dumps({"instances": [{"b64": base64.b64encode("é".encode()).decode()}, "a"]}).encode()
    assert json.loads(ask_handler(handler, sent)) == {"predictions": [{"b64": "6Q=="}, "a"]}


def ask_handler(handler: TensorFlowHandler, body: bytes) -> bytes:
    (response,) = handler.run([Call(body, "application/json", "application/json")])
    assert response.error is None, response.error
    return response.body
