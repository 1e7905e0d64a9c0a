"""The sandbox: hostile and broken files end in one line."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.errors import BadInput, ExportFailed, LoadFailed, OptimizeError
from optimize.evaluation.dataset import Dataset
from optimize.sandbox import parent
from optimize.sandbox.parent import SandboxLimits
from optimize.sources import KINDS, SourceSpec, baseline, conversion

LIMITS = SandboxLimits(memory_bytes=4 * 2**30)


class Does:
    """A pickle that calls ``function`` with ``arguments`` when it is opened."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


@pytest.fixture
def data() -> Dataset:
    return Dataset({"x": np.random.default_rng(0).random((20, 4), dtype=np.float32)}, None, "")


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


def opened(path: Path, data: Dataset, workdir: Path, *, allowed: bool = True) -> conversion.Conversion:
    request = SourceSpec(str(path), allow_pickle=allowed)
    return parent.convert(KINDS["pickle"], request, data, (1, 2, 8), workdir, LIMITS)


def test_a_trained_model_is_converted_in_the_child(tmp_path: Path, data: Dataset, workdir: Path) -> None:
    pytest.importorskip("skl2onnx", reason="the extra 'classic' is not installed")
    joblib = pytest.importorskip("joblib")
    from sklearn.tree import DecisionTreeClassifier

    rows = data.inputs["x"]
    joblib.dump(DecisionTreeClassifier(max_depth=3).fit(rows, rows[:, 0] > rows[:, 1]), tmp_path / "m.joblib")
    found = opened(tmp_path / "m.joblib", data, workdir)
    assert (found.inputs, found.classes, set(found.digests)) == (("x",), ("False", "True"), {"model"})
    assert baseline.write(found, tmp_path / "r.onnx").worst < 1e-6


def test_a_pickle_is_not_opened_without_the_option(tmp_path: Path, data: Dataset, workdir: Path) -> None:
    witness = tmp_path / "witness"
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Does(witness.touch)))
    with pytest.raises(BadInput, match="--allow-pickle"):
        opened(tmp_path / "m.pkl", data, workdir, allowed=False)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (lambda there: Does(os.system, f"touch {there}"), "tried to run a command"),
        (lambda there: Does(open, str(there), "w"), "tried to change .*witness"),
        (lambda _: Does(os.kill, 1, 0), "tried to signal a process"),
        (lambda _: Does(bytearray, 2**40), "needs more than 4 GiB"),
        (lambda _: {"weights": [1, 2]}, "object of type dict"),
    ],
    ids=["command", "file", "signal", "memory", "no model"],
)
def test_forbidden_actions_of_a_pickle_are_reported_in_one_line(
    attack: Any, words: str, tmp_path: Path, data: Dataset, workdir: Path
) -> None:
    pytest.importorskip("joblib")
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(attack(tmp_path / "witness")))
    with pytest.raises(OptimizeError, match=words) as caught:
        opened(tmp_path / "m.pkl", data, workdir)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "crashed .SIGABRT."),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed, .*4 GiB, --source-memory"),
        ("raise ValueError('\\x1b[31mred\\x1b[0m')", r"failed: ValueError: \[31mred"),
        ("import sys; sys.stderr.write('std::bad_alloc'); sys.exit(1)", "more memory than allowed"),
        ("pass", "ended without a result"),
        ("open('failure.json', 'w').write('{')", "unreadable failure"),
    ],
)
def test_every_exit_has_a_reason(code: str, words: str, workdir: Path) -> None:
    with pytest.raises(LoadFailed, match=words):
        parent.run([sys.executable, "-c", code], workdir, [], "m.pkl", LIMITS)


def test_a_slow_child_is_stopped(workdir: Path) -> None:
    command = [sys.executable, "-c", "while True: pass"]
    with pytest.raises(LoadFailed, match=r"longer than 0\.05 s.*--source-time"):
        parent.run(command, workdir, [], "m.pkl", SandboxLimits(seconds=0.05))


def test_a_failure_keeps_its_error_class(workdir: Path) -> None:
    (workdir / parent.FAILURE).write_text(json.dumps({"code": "export_failed", "message": "no\nsuch\x07 operator"}))
    with pytest.raises(ExportFailed, match=r"^no such operator$"):
        parent.run([sys.executable, "-c", "pass"], workdir, [], "m.pkl", LIMITS)


def test_the_child_sees_no_secrets(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = "import os, json; json.dump(dict(os.environ), open('result.json', 'w'))"
    parent.run([sys.executable, "-c", code], workdir, [], "m.pkl", LIMITS)
    seen = json.loads((workdir / conversion.RESULT).read_text())
    assert "AWS_SECRET_ACCESS_KEY" not in seen
    assert seen["HOME"] == str(workdir)


def test_there_is_no_network_inside(workdir: Path) -> None:
    code = (
        "import pathlib, socket, json; from optimize.sandbox import child; child.restrict(pathlib.Path('.'), 2**33)\n"
        "try: socket.create_connection(('127.0.0.1', 9), 1)\n"
        "except PermissionError as error: json.dump(str(error), open('result.json', 'w'))"
    )
    parent.run([sys.executable, "-c", code], workdir, [str(parent.ROOT)], "m.pkl", LIMITS)
    assert "use the network" in (workdir / conversion.RESULT).read_text()


def test_the_result_of_a_child_is_read_as_data(workdir: Path, data: Dataset) -> None:
    (workdir / conversion.RESULT).write_text(json.dumps({"inputs": ["x"]}))
    with pytest.raises(BadInput, match="unreadable result"):
        conversion.read(workdir, "m.pkl", data, (1, 2))
