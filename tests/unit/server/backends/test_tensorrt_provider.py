"""ONNX Runtime's TensorRT provider: the options that it is given, and where its engines lie."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.artifact import VariableAxis
from server.backends import BackendOptions, onnxruntime_cuda
from server.backends.tensorrt_provider import FOLDER, engine_folder, profile, provider_options
from server.errors import BrokenArtifact
from server.target import ClosedShapes, DeviceTarget
from server.tensors import BY_NAME, ModelSpec, TensorSpec

FP32, INT64 = BY_NAME["FP32"], BY_NAME["INT64"]
TEXTS = ModelSpec(
    (
        TensorSpec("ids", INT64, (-1, -1), axes=("rows", "length")),
        TensorSpec("mask", INT64, (-1, -1), axes=("rows", "length")),
        TensorSpec("table", FP32, (-1, 4), axes=("rows", "")),
    ),
    (TensorSpec("y", FP32, (-1, 2), axes=("rows", "")),),
)
OPTIONS = BackendOptions(
    target=DeviceTarget("tensorrt"),
    spec=TEXTS,
    shapes=ClosedShapes((1, 8, 32), (16, 128)),
    padding=VariableAxis({"ids": (1, 0), "mask": (1, 0)}),
)


def test_engines_and_timings_are_kept_and_one_profile_covers_all_buckets() -> None:
    assert provider_options(OPTIONS, 3, 77, False, Path("/cache")) == {
        "device_id": "3",
        "user_compute_stream": "77",
        "trt_fp16_enable": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "/cache",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": "/cache",
        "trt_profile_min_shapes": "ids:1x16,mask:1x16,table:1x4",
        "trt_profile_opt_shapes": "ids:32x128,mask:32x128,table:32x4",
        "trt_profile_max_shapes": "ids:32x128,mask:32x128,table:32x4",
    }


def test_half_precision_only_where_the_manifest_says_so() -> None:
    told = replace(OPTIONS, target=DeviceTarget("tensorrt", options={"fp16": True}))
    assert [onnxruntime_cuda.tuning(one).fp16 for one in (OPTIONS, told)] == [False, True]
    assert provider_options(told, 0, 1, True, Path("/cache"))["trt_fp16_enable"] == "1"
    with pytest.raises(BrokenArtifact, match="'fp16'"):
        onnxruntime_cuda.tuning(replace(told, target=DeviceTarget("tensorrt", options={"fp16": 1})))


FIXED = ModelSpec((TensorSpec("x", FP32, (4, 3)),), (TensorSpec("y", FP32, (4, 3)),))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"spec": None}, id="a bare file"),
        pytest.param({"shapes": None}, id="open shapes"),
        pytest.param({"padding": None}, id="an axis of any size"),
        pytest.param({"spec": FIXED, "padding": None}, id="nothing is free"),
    ],
)
def test_without_closed_shapes_there_is_no_profile(change: dict[str, Any]) -> None:
    assert profile(replace(OPTIONS, **change)) == {}


def test_rows_alone_make_a_profile() -> None:
    spec = ModelSpec((TensorSpec("x", FP32, (-1, 3, 8, 8)),), (TensorSpec("y", FP32, (-1, 2)),))
    found = profile(replace(OPTIONS, spec=spec, padding=None, shapes=ClosedShapes((2, 4))))
    assert list(found.values()) == ["x:1x3x8x8", "x:4x3x8x8", "x:4x3x8x8"]


def test_an_engine_belongs_to_one_file_its_weights_and_its_options(tmp_path: Path) -> None:
    model, root = tmp_path / "a" / "model.onnx", tmp_path / "cache"
    model.parent.mkdir()
    root.mkdir()
    model.write_bytes(b"graph")
    weights = model.with_name("model.onnx.data")
    weights.write_bytes(b"1")
    seen = [engine_folder(model, {"fp16": "0"}, root)]
    assert engine_folder(model, {"fp16": "0"}, root) == seen[0]
    seen.append(engine_folder(model, {"fp16": "1"}, root))
    model.write_bytes(b"other")
    seen.append(engine_folder(model, {"fp16": "0"}, root))
    weights.write_bytes(b"22")
    seen.append(engine_folder(model, {"fp16": "0"}, root))
    assert len(set(seen)) == 4
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o700 for one in seen)
    assert {one.parent for one in seen} == {root / f"{FOLDER}-{os.getuid()}"}


@pytest.mark.parametrize("kind", ["open", "link"])
def test_a_folder_that_others_may_write_to_is_not_used(kind: str, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"graph")
    usual = tmp_path / f"{FOLDER}-{os.getuid()}"
    if kind == "open":
        usual.mkdir()
        usual.chmod(0o777)
    else:
        usual.symlink_to(tmp_path)
    folder = engine_folder(model, {}, tmp_path)
    assert folder.parent not in (usual, tmp_path)
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
