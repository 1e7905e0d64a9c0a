"""available_cores: the affinity, cut down by the CPU quota, in whole cores. Layouts of groups: test_cgroup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.system.cores import available_cores


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        pytest.param(None, 8, id="no control groups: the affinity"),
        pytest.param("max 100000", 8, id="no quota: the affinity"),
        pytest.param("200000 100000", 2, id="a quota below the affinity"),
        pytest.param("250000 100000", 2, id="a fraction is rounded down"),
        pytest.param("50000 100000", 1, id="never below one"),
        pytest.param("9900000 100000", 8, id="a quota above the affinity changes nothing"),
    ],
)
def test_the_smaller_of_affinity_and_quota_counts(tmp_path: Path, quota: str | None, cores: int) -> None:
    if quota is not None:
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup/cpu.max").write_text(quota)
    assert available_cores(tmp_path) == cores


def test_this_machine_has_at_least_one_core() -> None:
    assert available_cores() >= 1
