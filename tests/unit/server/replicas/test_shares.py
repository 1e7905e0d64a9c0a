"""Shares: memory is divided by the number of processes, limits of one request are not, and GPUs go to processes."""

from __future__ import annotations

import dataclasses

import pytest

from server.replicas.shares import share_of
from server.settings.options import Settings
from server.system.gpu import Gpu, Gpus
from server.system.gpu_shares import OwnGpus, divide

DIVIDED = {"memory_budget_mb", "max_receive_mb", "max_queue_mb", "cache_mb"}
GB = 10**9


def host(count: int, *, mig: bool = False) -> Gpus:
    return Gpus(tuple(Gpu(at, "L4", f"GPU-{at}", 89, 24 * GB, 0, mig, None, None, None) for at in range(count)))


def test_memory_is_divided_and_nothing_else_changes() -> None:
    whole = Settings(processes=4, memory_budget_mb=400, cache_mb=40, gpu_memory_mb=100, max_connections=100)
    share = share_of(whole, OwnGpus())
    for name in DIVIDED:
        assert getattr(share, name) == getattr(whole, name) / 4
    rest = {name: value for name, value in dataclasses.asdict(share).items() if name not in DIVIDED}
    assert rest == {name: value for name, value in dataclasses.asdict(whole).items() if name not in DIVIDED}


@pytest.mark.parametrize(
    ("processes", "gpus", "there", "wanted"),
    [
        (2, 0, 2, [("GPU-0",), ("GPU-1",)]),
        (2, 0, 5, [("GPU-0", "GPU-2", "GPU-4"), ("GPU-1", "GPU-3")]),
        (3, 2, 4, [("GPU-0",), ("GPU-1",), ("GPU-0",)]),
        (3, 1, 4, [("GPU-0",)] * 3),
        (2, 4, 2, [(), ()]),  # too few: the process that loads a model says so
        (2, 1, 0, [(), ()]),
    ],
)
def test_each_process_gets_gpus_of_its_own_as_far_as_there_are_enough(
    processes: int, gpus: int, there: int, wanted: list[tuple[str, ...]]
) -> None:
    found = divide(processes, gpus, host(there), None)
    assert [one.names for one in found] == wanted
    assert [one.sharers for one in found] == [
        max(sum(one == other for other in wanted), 1) if one else 1 for one in wanted
    ]


def test_a_gpu_that_is_shared_has_its_memory_divided_and_another_one_does_not() -> None:
    settings = Settings(processes=3, gpus=0)
    own = divide(3, 0, host(2), None)
    shares = [share_of(settings, one) for one in own]
    assert [(one.gpus, one.gpu_memory_mb) for one in shares] == [(1, 10_800.0), (1, 0.0), (1, 10_800.0)]
    told = dataclasses.replace(settings, gpu_memory_mb=6_000)
    assert [share_of(told, one).gpu_memory_mb for one in own] == [3_000, 6_000, 3_000]


@pytest.mark.parametrize(
    ("visible", "wanted"),
    [("2,GPU-0", [("2",), ("GPU-0",)]), ("MIG-1", [("MIG-1",)] * 2), ("", [(), ()])],
)
def test_what_the_server_itself_does_not_see_is_not_divided(visible: str, wanted: list[tuple[str, ...]]) -> None:
    found = divide(2, 0, host(3), visible)
    assert [one.names for one in found] == wanted
    assert [one.bytes for one in found] == [24 * GB if names and "MIG" not in names[0] else 0 for names in wanted]


def test_slices_are_left_alone() -> None:
    assert divide(2, 0, host(2, mig=True), None) == [OwnGpus()] * 2
