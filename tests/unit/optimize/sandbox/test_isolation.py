"""Isolation: the parent gets a result or a reason, whatever happens in the child."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimize.errors import BadInput, PassFailed
from optimize.sandbox import isolation
from optimize.sandbox.isolation import StepLimits

ROOMY = StepLimits(60, 4_000_000_000)


def double(number: int) -> int:
    return 2 * number


def refuse() -> None:
    raise BadInput("not like this")


def stumble() -> None:
    raise KeyError("missing")


def crash() -> None:
    os.write(2, b"double free or corruption\n")
    ctypes.string_at(0)


def devour() -> int:
    return int(np.ones(4_000_000_000, np.uint8).sum())


def hang() -> None:
    signal.pause()


def test_the_result_is_returned() -> None:
    assert isolation.call(ROOMY, double, 21) == 42


@pytest.mark.parametrize(
    ("step", "limits", "error", "words"),
    [
        (refuse, ROOMY, BadInput, "not like this"),
        (stumble, ROOMY, PassFailed, "KeyError: 'missing'"),
        (crash, ROOMY, PassFailed, r"crashed with signal SIGSEGV: double free or corruption"),
        (devour, StepLimits(60, 1_000_000_000), PassFailed, r"more memory than .* 1\.0 GB"),
        (hang, StepLimits(0.05, 1_000_000_000), PassFailed, "longer than .* 0 s: .*--budget"),
    ],
)
def test_every_failure_has_a_reason(
    step: object, limits: StepLimits, error: type[Exception], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error, match=words):
        isolation.call(limits, step)  # type: ignore[arg-type]  # each takes no arguments
    assert capfd.readouterr() == ("", "")


def test_free_memory_is_read_from_meminfo(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 2000 kB\nMemAvailable: 1000 kB\n")
    assert isolation.available_memory(meminfo) == 819_200
    assert isolation.available_memory(tmp_path / "none") == isolation.UNKNOWN_MEMORY_BYTES


def litter() -> str:
    Path("left_behind").write_text("by a tool")
    return str(Path.cwd())


def test_files_in_the_folder_of_the_child_are_deleted() -> None:
    assert not Path(isolation.call(ROOMY, litter)).exists()
    assert not Path("left_behind").exists()


def test_a_child_ends_silently_if_its_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption may fall into the moment in which the child starts."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with pytest.raises(SystemExit):
        isolation._child(theirs, tmp_path / "gone" / "printed", StepLimits(1, 1), print, (), {})
    ours.close()
    theirs.close()


def reporting(steps: int) -> str:
    for step in range(steps):
        isolation.report(step + 1, steps)
    return "done"


def test_a_child_tells_how_far_it_is() -> None:
    heard: list[tuple[int, int]] = []
    limits = replace(ROOMY, heard=lambda done, total: heard.append((done, total)))
    assert isolation.call(limits, reporting, 3) == "done"
    assert heard == [(1, 3), (2, 3), (3, 3)]
    isolation.report(1, 2)
    assert len(heard) == 3, "outside of a child nothing is reported"
