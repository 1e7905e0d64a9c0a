"""The processor against the manifest: silence where they agree, one log line or a refusal where they differ."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from server.artifact import Manifest
from server.errors import BrokenArtifact
from server.models.load.host import compare_host
from server.system import cpu
from server.tensors import ModelSpec

BARE = Manifest("small", "1", "onnxruntime", "model.onnx", ModelSpec((), ()))


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text("model name : Abacus 3\nflags : fpu avx2 avx512f\n")
    return path


def test_agreement_is_silent(cpuinfo: Path) -> None:
    versions = {"onnxruntime": metadata.version("onnxruntime"), "torch": "0"}
    same = {"hardware": {"flags": ["avx512f", "avx2"]}, "versions": versions}
    assert cpu.disagreements(same, cpuinfo) == []
    assert cpu.disagreements({}, cpuinfo) == []
    assert cpu.disagreements({"hardware": "unknown", "versions": None}, cpuinfo) == []


def test_what_differs_is_named(cpuinfo: Path) -> None:
    other = {"hardware": {"flags": ["avx2", "avx512_vnni"]}, "versions": {"onnxruntime": "0.1"}}
    assert cpu.disagreements(other, cpuinfo) == [
        "this processor lacks avx512_vnni",
        "this processor also has avx512f",
        f"onnxruntime is {metadata.version('onnxruntime')} here and was 0.1",
    ]


def test_the_server_says_it_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "slipway.models"):
        compare_host(BARE)
        compare_host(replace(BARE, provenance={"versions": {"onnxruntime": "0.1"}}))
    (record,) = caplog.records
    assert "model=small differences='onnxruntime is" in record.getMessage()


def test_weights_that_were_packed_for_another_host_are_refused() -> None:
    with pytest.raises(BrokenArtifact, match="packed for another host"):
        compare_host(replace(BARE, provenance={"versions": {"onnxruntime": "0.1"}, "prepacked": True}))
