"""Rebuilding over a fake of TensorRT: the engine, its device and its times become those of this host."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.errors import BadInput, PassFailed
from optimize.hardware import Gpu
from optimize.package import verify
from optimize.package.rebuild import rebuild
from optimize.package.verify import Speed, Verified
from optimize.passes import engine_from_onnx
from optimize.passes.engine import BuildConfig
from optimize.target import CUDA, TENSORRT, Target
from server import artifact
from server.artifact import Artifact, Batching, CostPoint, Manifest
from server.errors import BrokenArtifact
from server.target import BucketBytes, ClosedShapes, DeviceTarget
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.onnx_graphs import FLOAT, graph, node
from tests.tensorrt.fake import FakeTensorRT, tensorrt

SPEC = ModelSpec(
    (TensorSpec("x", BY_NAME["FP32"], (-1, 4), ("n", "")),), (TensorSpec("y", BY_NAME["FP32"], (-1, 4), ("n", "")),)
)
COST = (CostPoint(1, 10.0, 20.0), CostPoint(8, 40.0, 60.0))
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def network(path: Path, weight: float) -> Path:
    """FP32 [n, 4], times ``weight``."""
    nodes = [node("MatMul", "x w", "y", name="product")]
    model = graph(
        nodes, [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 4])], {"w": np.eye(4, dtype=np.float32) * weight}
    )
    path.write_bytes(model.SerializeToString())
    return path


def here(monkeypatch: pytest.MonkeyPatch, fake: FakeTensorRT) -> Target:
    """This host, whose TensorRT is the fake."""
    monkeypatch.setitem(sys.modules, "fake_trt", fake.module)
    gpu = Gpu("NVIDIA L4", "GPU-1", fake.sm, "580.95.05", 1 << 34)
    return Target(frozenset({CUDA, TENSORRT}), gpu, TENSORRT, "fake_trt", 13)


def made(root: Path, fake: FakeTensorRT, config: BuildConfig | None = None) -> Path:
    """An artifact with an engine of ``fake``."""
    root.mkdir()
    network(root / "model.onnx", 2.0)
    config = config or BuildConfig()
    engine_from_onnx.make(fake.module, root, (1, 8), (), config)
    arrays: dict[str, Any] = {"input:x": X, "output:y": 2 * X}
    np.savez(root / artifact.SAMPLES, **arrays)
    version = fake.module.__version__
    device = DeviceTarget(
        TENSORRT, fake.sm, 75, 580, {"fake_trt": version}, {"graphs": False}, 1, refittable=config.refittable
    )
    shapes = ClosedShapes((1, 8), bytes=(BucketBytes(1, 0, 7), BucketBytes(8, 0, 9)))
    artifact.write(
        root,
        Manifest(
            "m", "1", TENSORRT, "model.plan", SPEC, batching=Batching((1, 8)), cost=COST, device=device, shapes=shapes
        ),
    )
    return root


def checked(path: Path) -> Verified:
    """Twice as fast as before."""
    return Verified(0.0, 1.0, 2, (), tuple(Speed(one.batch_size, one.p50_us / 2, one.p50_us) for one in COST))


def memory(found: Artifact, uuid: str) -> tuple[BucketBytes, ...]:
    """As if each row took a hundred bytes on the GPU of :func:`here`."""
    assert (uuid, found.manifest.device.bytes) == ("GPU-1", found.model_path.stat().st_size)
    assert found.manifest.shapes is not None
    return tuple(BucketBytes(rows, 0, 100 * rows) for rows in found.manifest.shapes.rows)


def plan_of(found: Artifact) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((found.root / "model.plan").read_bytes())
    return body


def test_an_engine_is_built_again_for_this_gpu_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "engine", tensorrt("10.16", sm=90))
    fake = tensorrt("11.4", sm=89)
    found = rebuild(path, here(monkeypatch, fake), None, checked, memory)
    manifest = artifact.read(path).manifest
    artifact.verify(found)
    assert (manifest.device.sm, manifest.device.versions) == (89, {"fake_trt": fake.module.__version__})
    assert manifest.device.bytes == (path / "model.plan").stat().st_size
    assert manifest.cost == (CostPoint(1, 5.0, 10.0), CostPoint(8, 20.0, 30.0))
    assert manifest.provenance["rebuilds"][-1]["gpu"]["name"] == "NVIDIA L4"
    assert manifest.shapes == ClosedShapes((1, 8), bytes=(BucketBytes(1, 0, 100), BucketBytes(8, 0, 800)))
    assert plan_of(found)["sm"] == 89
    assert [one["x"][2] for one in plan_of(found)["profiles"]] == [[1, 4], [8, 4]]
    (given,) = (one for one in fake.called("IBuilderConfig", "create_timing_cache"))
    assert list(given.arguments.values()) == [b""], "the cache of another GPU is of no use"


def test_an_artifact_that_fails_its_samples_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "engine", tensorrt("10.16", sm=90))
    before = {one.name: one.read_bytes() for one in path.iterdir()}

    def wrong(_: Path) -> Verified:
        raise BrokenArtifact("the samples differ")

    with pytest.raises(BrokenArtifact):
        rebuild(path, here(monkeypatch, tensorrt("10.16", sm=89)), None, wrong, memory)
    with pytest.raises(PassFailed):
        rebuild(path, here(monkeypatch, tensorrt("10.16", sm=89, build_error="10: no")), None, checked, memory)
    assert {one.name: one.read_bytes() for one in path.iterdir()} == before
    assert [one.name for one in tmp_path.iterdir()] == ["engine"]


@pytest.mark.parametrize("refittable", [False, True])
def test_new_weights_are_put_into_the_engine_or_it_is_built_again(
    refittable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tensorrt("10.16", sm=89)
    path = made(tmp_path / "engine", fake, BuildConfig(refittable=refittable))
    builds = len(fake.called("Builder", "build_serialized_network"))
    found = rebuild(path, here(monkeypatch, fake), network(tmp_path / "new.onnx", 3.0), checked, memory)
    assert found.manifest.provenance["rebuilds"][-1]["refitted"] is refittable
    assert len(fake.called("Builder", "build_serialized_network")) - builds == (0 if refittable else 1)
    with np.load(path / artifact.SAMPLES) as samples:
        assert np.allclose(samples["output:y"], 3 * X)


def test_what_an_engine_is_stays_so_wherever_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refittable engine is refittable on another GPU, and keeps its options and the record of other weights."""
    path = made(tmp_path / "engine", tensorrt("10.16", sm=89), BuildConfig(refittable=True))
    rebuild(path, here(monkeypatch, tensorrt("10.16", sm=89)), network(tmp_path / "new.onnx", 3.0), checked, memory)
    found = rebuild(path, here(monkeypatch, tensorrt("11.4", sm=90)), None, checked, memory)
    assert plan_of(found)["refittable"]
    device = artifact.read(path).manifest.device
    assert (device.refittable, device.options, device.least_sm) == (True, {"graphs": False}, 75)
    assert [one["weights_replaced"] for one in found.manifest.provenance["rebuilds"]] == [True, False]
    assert any("replaced the weights" in line for line in verify._warnings(found.manifest))


def test_a_gpu_without_the_number_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "engine", tensorrt("10.16", sm=90))
    with pytest.raises(BadInput, match="needs SM 75, and this GPU has SM 70"):
        rebuild(path, here(monkeypatch, tensorrt("10.16", sm=70)), None, checked, memory)


def test_only_engines_are_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network(tmp_path / "model.onnx", 1.0)
    artifact.write(tmp_path, Manifest("m", "1", "onnxruntime", "model.onnx", SPEC))
    with pytest.raises(BadInput, match="has no engine"):
        rebuild(tmp_path, here(monkeypatch, tensorrt()), None, checked, memory)
