"""TorchServe's own handlers of images: what they make of images and outputs, from archives without code."""

from __future__ import annotations

import base64
import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save
from PIL import Image

from server.errors import BrokenArtifact
from server.models.layouts.archive import open_archive
from server.scripts.call import Call, ScriptResponse
from server.scripts.loaded_script import LoadedScript, ScriptConfig
from server.scripts.shims.ts.torch_handler.vision_handler import MEAN, STD, Transform

LABELS = {"0": ["n01", "red"], "1": "green", "2": "blue"}
PIXELS = np.random.default_rng(7).integers(0, 255, (256, 256, 3)).astype(np.uint8)


def png(pixels: np.ndarray = PIXELS) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def normalized(pixels: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (pixels[16:240, 16:240].astype(np.float64) / 255 - MEAN) / STD
    return scaled


def channel_means(path: Path) -> Path:
    """Scores [n, 3] of images [n, 3, 224, 224]: the mean of each colour."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)]
    ends = (
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    graph = helper.make_graph(nodes, "means", *ends)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@contextmanager
def handler(folder: Path, name: str, file: Path) -> Iterator[LoadedScript]:
    model = {"modelName": "m", "handler": name, "serializedFile": file.name}
    with zipfile.ZipFile(folder / "m.mar", "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
        packed.writestr("index_to_name.json", json.dumps(LABELS))
        packed.write(file, file.name)
    artifact = open_archive(folder / "m.mar", scripts=True)
    assert artifact.script is not None
    assert artifact.declaration.handler is not None
    script = LoadedScript(artifact, ScriptConfig(artifact.script, artifact.declaration.handler.attribute, archive=True))
    try:
        yield script
    finally:
        script.close()


def run(script: LoadedScript, *bodies: bytes, content_type: str = "") -> list[ScriptResponse]:
    headers = [(b"content-type", content_type.encode())] if content_type else []
    return script.run([Call(body, content_type or None, "application/json", headers) for body in bodies])


def test_an_image_is_resized_cut_and_normalized_as_by_torchserve() -> None:
    transform = Transform(shorter=256, size=224)
    np.testing.assert_allclose(transform(Image.fromarray(PIXELS)), normalized(PIXELS).transpose(2, 0, 1), rtol=1e-4)
    for size in ((300, 400), (1000, 256), (30, 41)):
        assert transform(Image.new("L", size, 255)).shape == (3, 224, 224)
    plain = Transform()(Image.fromarray(PIXELS[:5, :7]))
    np.testing.assert_array_equal(plain, PIXELS[:5, :7].transpose(2, 0, 1) / np.float32(255))


def test_the_classifier_names_the_best_classes_without_pytorch(tmp_path: Path) -> None:
    scores = normalized(PIXELS).mean(axis=(0, 1))
    shares = np.exp(scores) / np.exp(scores).sum()
    names = [("red", "green", "blue")[index] for index in np.argsort(-shares)]
    as_json = json.dumps(base64.b64encode(png()).decode()).encode()
    with handler(tmp_path, "image_classifier", channel_means(tmp_path / "model.onnx")) as script:
        for responses in (run(script, png(), png()), run(script, as_json, content_type="application/json")):
            for one in responses:
                found = json.loads(one.body)
                assert [*found] == names
                np.testing.assert_allclose([*found.values()], sorted(shares, reverse=True), rtol=1e-4)
        listed = json.dumps(np.zeros((3, 224, 224)).tolist()).encode()
        (even,) = run(script, listed, content_type="application/json")
        assert json.loads(even.body) == pytest.approx(dict.fromkeys(("red", "green", "blue"), 1 / 3))


@pytest.mark.parametrize("body", [b"", b"no image", png()[:200]])
def test_a_body_that_is_no_image_is_the_clients_fault(body: bytes, tmp_path: Path) -> None:
    with handler(tmp_path, "image_classifier", channel_means(tmp_path / "model.onnx")) as script:
        (response,) = run(script, body)
        assert response.status == 400
        assert b"image" in response.body


def test_images_that_would_take_much_memory_are_refused(tmp_path: Path) -> None:
    with handler(tmp_path, "image_classifier", channel_means(tmp_path / "model.onnx")) as script:
        for size in ((1, 100_000), (5_001, 5_000)):
            stream = io.BytesIO()
            Image.new("1", size).save(stream, "PNG")
            (response,) = run(script, stream.getvalue())
            assert response.status == 400


def test_segmenter_and_detector_give_what_torchserve_gives(tmp_path: Path) -> None:
    import torch

    class Segmenter(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"out": x}

    class Detector(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            boxes = torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])
            return [{"boxes": boxes, "labels": torch.tensor([1, 7]), "scores": torch.tensor([0.75, 0.25])}]

    for name, module in (("segmenter", Segmenter()), ("detector", Detector())):
        with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated, and still what archives hold
            torch.jit.script(module).save(str(tmp_path / f"{name}.pt"))  # type: ignore[no-untyped-call]
    with warnings.catch_warnings(action="ignore"):
        with handler(tmp_path, "image_segmenter", tmp_path / "segmenter.pt") as script:
            found = np.array(json.loads(run(script, png())[0].body))
        with handler(tmp_path, "object_detector", tmp_path / "detector.pt") as script:
            objects = json.loads(run(script, png())[0].body)
    planes = np.exp(normalized(PIXELS))
    np.testing.assert_array_equal(found[..., 0], planes.argmax(axis=2))
    np.testing.assert_allclose(found[..., 1], planes.max(axis=2) / planes.sum(axis=2), rtol=1e-4)
    assert objects == [{"green": [0.0, 1.0, 2.0, 3.0], "score": 0.75}]


def test_a_model_of_pytorch_without_pytorch_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(BrokenArtifact, match="needs PyTorch, which is not installed"):  # noqa: SIM117
        with handler(tmp_path, "image_classifier", tmp_path / "model.pt"):
            pass
