"""Dispatch: options that belong to one kind of source are refused by the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.errors import BadInput, LoadFailed
from optimize.evaluation.dataset import Dataset
from optimize.options import Options, parse
from optimize.sources import dispatch


def options(source: Path, *more: str) -> Options:
    return parse([str(source), "--eval", "e.npz", "--output", "out", *more])


def test_a_graph_is_converted_and_announced(graph_file: Path, rows: Dataset, tmp_path: Path) -> None:
    said: list[str] = []
    found = dispatch.convert(options(graph_file), rows, (1, 2), tmp_path, said.append)
    assert found.outputs == ("score",)
    assert said == ["an .onnx file, or a folder with one"]


def test_weights_belong_to_a_factory(graph_file: Path, rows: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--weights needs a module:attribute"):
        dispatch.convert(options(graph_file, "--weights", "w.pt"), rows, (1, 2), tmp_path, print)


def test_a_source_that_crashes_is_an_error(rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crashing.py").write_text("import os, signal\ndef build(): os.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(LoadFailed, match="crashed with signal SIGSEGV"):
        dispatch.convert(options(Path("crashing:build")), rows, (1, 2), tmp_path, print)


def test_a_source_that_takes_too_long_is_stopped(
    rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hanging.py").write_text("import signal\ndef build(): signal.pause()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(LoadFailed, match="limit of 0 s: increase --budget"):
        dispatch.convert(options(Path("hanging:build")), rows, (1, 2), tmp_path, print, 0.1)


def test_free_axes_that_the_file_fixes_are_refused(graph_file: Path, rows: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no other size can be verified"):
        dispatch.convert(options(graph_file, "--dynamic", "image:2=height"), rows, (1, 2), tmp_path, print)
