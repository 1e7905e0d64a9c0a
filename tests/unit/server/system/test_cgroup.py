"""Control groups: the tightest limit of all groups above a process, in every layout."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.system import cgroup
from server.system.cgroup import Throttling

V2, HYBRID, V1 = "version 2", "hybrid", "version 1"
GIB = 1 << 30
NO_LIMIT = "9223372036854771712"
MOUNT = "sys/fs/cgroup"


def tree(root: Path, files: dict[str, str]) -> Path:
    """``files`` below ``root``; a value is the text of one of the kernel's files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")
    return root


def v1_cpu(group: str, quota_us: int, controller: str = "cpu,cpuacct") -> dict[str, str]:
    place = f"{MOUNT}/{controller}/{group}".rstrip("/")
    return {f"{place}/cpu.cfs_quota_us": str(quota_us), f"{place}/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("files", "cores", "limit"),
    [
        pytest.param({}, None, None, id="no control groups"),
        pytest.param({"proc/self/cgroup": "0::/"}, None, None, id="v2: the root group has no limit files"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/mine",
                f"{MOUNT}/mine/cpu.max": "max 100000",
                f"{MOUNT}/other/cpu.max": "100000 100000",
                f"{MOUNT}/mine/deeper/memory.max": "1",
            },
            None,
            None,
            id="v2: groups beside and below do not bind",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/mine",
                f"{MOUNT}/mine/memory.max": "max",
                f"{MOUNT}/memory/memory.max": "5",
                f"{MOUNT}/cpu/cpu.max": "100000 100000",
            },
            None,
            None,
            id="v2: a group that is named like a controller is no hierarchy",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu:/b\n0::/d/e",
                **v1_cpu("b", 250_000, controller="cpu"),
                f"{MOUNT}/unified/d/memory.max": "50",
                f"{MOUNT}/unified/d/e/memory.max": "max",
            },
            2.5,
            50,
            id="hybrid: memory is in version 2, the CPU in version 1",
        ),
        pytest.param({f"{MOUNT}/cpu.max": "100000 100000", f"{MOUNT}/memory.max": "9"}, 1.0, 9, id="no /proc file"),
        pytest.param(
            {"proc/self/cgroup": "0::/../away", f"{MOUNT}/cpu.max": "100000 100000", "sys/fs/away/cpu.max": "1 1"},
            None,
            None,
            id="v2: a group outside the namespace",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/a", f"{MOUNT}/a/cpu.max": "much", f"{MOUNT}/a/memory.max": "more"},
            None,
            None,
            id="files that cannot be parsed",
        ),
        pytest.param({"proc/self/cgroup": "0::/a", f"{MOUNT}/a/cpu.max": "0 0"}, None, None, id="a period of zero"),
        pytest.param({"proc/self/cgroup": "nonsense"}, None, None, id="a /proc file that cannot be parsed"),
    ],
)
def test_the_tightest_limit_binds(
    tmp_path: Path, files: dict[str, str], cores: float | None, limit: int | None
) -> None:
    found = cgroup.of(root=tree(tmp_path, files))
    assert found.quota_cores() == cores
    assert found.memory_limit_bytes() == limit


def test_another_process_has_groups_of_its_own(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a", "proc/42/cgroup": "0::/b", f"{MOUNT}/a/memory.max": "1"}
    root = tree(tmp_path, {**files, f"{MOUNT}/b/memory.max": "2"})
    assert cgroup.of(root=root).memory_limit_bytes() == 1
    assert cgroup.of(42, root).memory_limit_bytes() == 2


def test_another_process_that_cannot_be_read_gets_no_limit_of_ours(tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{MOUNT}/memory.max": "1", f"{MOUNT}/cpu.max": "100000 100000"})
    assert cgroup.of(42, root) == cgroup.ControlGroups((), ())


def test_usage_is_of_the_group_whose_limit_is_tightest(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a/b", f"{MOUNT}/a/memory.max": "100", f"{MOUNT}/a/memory.current": "80"}
    root = tree(tmp_path, {**files, f"{MOUNT}/a/b/memory.max": "max", f"{MOUNT}/a/b/memory.current": "30"})
    assert cgroup.of(root=root).memory_used_bytes() == 80
    (root / MOUNT / "a/memory.max").write_text("max\n")
    assert cgroup.of(root=root).memory_used_bytes() == 30


def test_throttling_is_of_the_group_whose_quota_is_tightest(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a/b",
        f"{MOUNT}/a/cpu.max": "100000 100000",
        f"{MOUNT}/a/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 11",
        f"{MOUNT}/a/b/cpu.max": "max 100000",
        f"{MOUNT}/a/b/cpu.stat": "usage_usec 5\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0",
    }
    root = tree(tmp_path, files)
    assert cgroup.of(root=root).throttling() == Throttling(9, 2, 11_000, 100_000_000)
    (root / MOUNT / "a/cpu.max").write_text("max 100000\n")
    assert cgroup.of(root=root).throttling() == Throttling(0, 0, 0, 100_000_000)


def test_version_1_counts_throttling_in_nanoseconds(tmp_path: Path) -> None:
    stat = {f"{MOUNT}/cpu/cpu.stat": "nr_periods 1\nnr_throttled 1\nthrottled_time 77"}
    root = tree(tmp_path, {"proc/self/cgroup": "4:cpu,cpuacct:/", **stat})
    assert cgroup.of(root=root).throttling() == Throttling(1, 1, 77)
    (root / MOUNT / "cpu/cpu.cfs_period_us").write_text("20000\n")
    assert cgroup.of(root=root).throttling() == Throttling(1, 1, 77, 20_000_000)


def test_counters_that_are_not_there_are_unknown(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/", f"{MOUNT}/cpu.stat": "usage_usec 5"})
    assert cgroup.of(root=root).throttling() is None
    assert cgroup.of(root=root).memory_used_bytes() is None


def test_limits_are_read_anew_with_every_call(tmp_path: Path) -> None:
    found = cgroup.of(root=tree(tmp_path, {"proc/self/cgroup": "0::/", f"{MOUNT}/memory.max": "1"}))
    assert found.memory_limit_bytes() == 1
    (tmp_path / MOUNT / "memory.max").write_text("2\n")
    assert found.memory_limit_bytes() == 2


def test_this_machine_can_be_read() -> None:
    found = cgroup.of()
    assert found.quota_cores() is None or found.quota_cores() > 0  # type: ignore[operator]
    assert found.memory_limit_bytes() is None or found.memory_limit_bytes() > 0  # type: ignore[operator]


LIMITS = st.none() | st.integers(1, 64)
LEVELS = st.lists(st.tuples(LIMITS, LIMITS), min_size=1, max_size=5)


@given(layout=st.sampled_from((V2, HYBRID, V1)), levels=LEVELS, hidden=st.integers(0, 2))
def test_the_smallest_limit_along_the_path_wins_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory, layout: str, levels: list[tuple[int | None, int | None]], hidden: int
) -> None:
    """``levels``: quota (cores) and limit (GiB) of each group, from the top down. ``hidden``: how many groups of the
    host's path stand before it in ``/proc`` and have no directory in the container."""
    names = [f"g{depth}" for depth in range(1, len(levels))]
    path = "/" + "/".join([*(f"host{at}" for at in range(hidden if not names else 0)), *names])
    proc = {
        V2: f"0::{path}",
        HYBRID: f"5:memory:{path}\n4:cpu,cpuacct:{path}\n0::/init.scope",
        V1: f"5:memory:{path}\n4:cpu,cpuacct:{path}",
    }[layout]
    files = {"proc/self/cgroup": proc}
    for (cores, gib), group in zip(levels, itertools.accumulate(["", *names], "{}/{}".format), strict=True):
        if layout == V2:
            files[f"{MOUNT}/{group}/cpu.max"] = f"{'max' if cores is None else cores * 100_000} 100000"
            files[f"{MOUNT}/{group}/memory.max"] = "max" if gib is None else str(gib * GIB)
        else:
            files |= v1_cpu(group.lstrip("/"), -1 if cores is None else cores * 100_000)
            files[f"{MOUNT}/memory/{group}/memory.limit_in_bytes"] = NO_LIMIT if gib is None else str(gib * GIB)
    found = cgroup.of(root=tree(tmp_path_factory.mktemp("machine"), files))
    assert found.quota_cores() == min((cores for cores, _ in levels if cores is not None), default=None)
    assert found.memory_limit_bytes() == min((gib * GIB for _, gib in levels if gib is not None), default=None)
