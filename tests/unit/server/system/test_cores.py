"""available_cores: affinity, quotas of both control group versions, and files that are not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.system.cores import available_cores

V2_GROUP = "0::/kubepods/pod1\n"
V1_GROUP = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        pytest.param({}, 8, id="no control groups: the affinity"),
        pytest.param({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2, id="v2 quota at the top of the mount"),
        pytest.param({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8, id="v2 without a limit"),
        pytest.param({"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2, id="a fraction is rounded down"),
        pytest.param({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1, id="never below one"),
        pytest.param({"sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8, id="a quota above the affinity changes nothing"),
        pytest.param(
            {"proc/self/cgroup": V2_GROUP, "sys/fs/cgroup/kubepods/pod1/cpu.max": "300000 100000\n"},
            3,
            id="v2 quota of the own group",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V2_GROUP,
                "sys/fs/cgroup/kubepods/pod1/cpu.max": "max 100000\n",
                "sys/fs/cgroup/kubepods/cpu.max": "400000 100000\n",
            },
            4,
            id="v2 quota of a group above",
        ),
        pytest.param(
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            2,
            id="v1 quota at the top of the mount",
        ),
        pytest.param(
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            8,
            id="v1 without a limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1_GROUP,
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "500000",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            },
            5,
            id="v1 quota of the own group under the joint controller",
        ),
        pytest.param({"sys/fs/cgroup/cpu.max": "nonsense"}, 8, id="an unreadable quota does not limit"),
        pytest.param({"proc/self/cgroup": "0::/../escape\n"}, 8, id="a path out of the mount is not followed"),
    ],
)
def test_the_tightest_limit_wins(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert available_cores(lay_out(tmp_path, files)) == cores


def test_this_machine_has_at_least_one_core() -> None:
    assert available_cores() >= 1
