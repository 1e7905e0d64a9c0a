"""The exit codes of the command line and their messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize import pipeline
from optimize.__main__ import main
from optimize.errors import BadInput, NotProven
from optimize.evaluation.dataset import Dataset
from optimize.package import artifact as package
from optimize.package.artifact import Findings, Identity

LEAST = ["here:there", "--eval", "e.npz", "--output", "unused"]


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def raising(error: BaseException) -> object:
    def run(*_: object) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted: nothing was written\n"),
        (NotProven("output 'y' differs"), 1, f"error: output 'y' differs; {NotProven.remedy}\n"),
        (BadInput("no such file"), 2, "error: no such file\n"),
    ],
)
def test_every_failure_has_an_exit_code_and_one_line(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pipeline, "run", raising(error))
    assert main(LEAST) == code
    assert capsys.readouterr().err == line


def test_an_interrupted_search_with_a_cache_says_how_to_continue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "run", raising(KeyboardInterrupt()))
    assert main([*LEAST, "--work", "kept"]) == 130
    line = "interrupted: nothing was written; run the same command to continue from the search cache in --work\n"
    assert capsys.readouterr().err == line


def test_a_terminated_run_ends_like_an_interrupted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert main(LEAST) == 130


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bogus"], "see python -m optimize --help"),
        (["show"], "DIR"),
        (["verify", "/does/not/exist"], "is not a directory"),
        (LEAST, "e.npz does not exist"),
    ],
)
def test_unusable_input_exits_with_two(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_show_and_verify(tmp_path: Path, findings: Findings, rows: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "out"
    root.mkdir()
    package.write(root, Identity("small", "3", "", ()), findings, rows)
    assert main(["show", str(root)]) == 0
    assert "fast is 2.00 times as fast" in capsys.readouterr().out
    assert main(["verify", str(root)]) == 0
    assert "ok: all digests match" in capsys.readouterr().out
    (root / "model.onnx").write_bytes(b"")
    assert main(["verify", str(root)]) == 1


def test_help_does_not_import_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from optimize.options import parse\n"
        "try: parse(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--max-drop" in result.stdout
