"""The report's section on the GPU."""

from __future__ import annotations

from dataclasses import replace

from optimize.package.report_device import section
from server.artifact import Manifest
from server.target import BucketBytes, ClosedShapes, DeviceTarget
from server.tensors import ModelSpec

ENGINE = {"layers": 12, "reformat_layers": 2, "types": "HALF 20, INT8 4"}
EVIDENCE = {
    "candidates": [
        {"name": "float32", "sqnr_db": None, "applied": {}},
        {"name": "tensorrt_int8", "sqnr_db": 38.96, "forecast_db": 39.2, "applied": ENGINE},
    ],
    "device_options": [
        {"options": {"graphs": True}, "speed_up": {"value": 1.0, "low": 1.0, "high": 1.0}, "chosen": True},
        {"options": {"graphs": False}, "speed_up": {"value": 0.5, "low": 0.4, "high": 0.6}, "chosen": False},
    ],
}
MANIFEST = Manifest(
    "m", "1", "tensorrt", "model.plan", ModelSpec((), ()), evidence=EVIDENCE,
    provenance={"hardware": {"gpu": {"name": "NVIDIA <L4>", "driver": "580.95.05"}}},
    device=DeviceTarget("tensorrt", 89, 75, 580, {"tensorrt": "10.16.1.11"}, {}, 1_500_000),
    shapes=ClosedShapes((1, 8), (16,), (BucketBytes(1, 16, 10_000), BucketBytes(8, 16, 2_000_000))),
)  # fmt: skip


def test_it_shows_device_forecast_layers_options_and_memory() -> None:
    (text,) = section(MANIFEST)
    for part in (
        "NVIDIA &lt;L4&gt;, driver 580.95.05; bound to SM 8.9, tensorrt 10.16.1.11, driver 580 or later",
        "39.0 dB", "39.2 dB", "HALF 20, INT8 4",
        "graphs False", "0.50x (0.40 to 0.60)", "1.5 MB of device memory", "2.0",
    ):  # fmt: skip
        assert part in text
    assert "float32" not in text, "it has no forecast and no layers"


def test_an_artifact_of_the_processor_has_none() -> None:
    assert section(replace(MANIFEST, device=DeviceTarget())) == []
