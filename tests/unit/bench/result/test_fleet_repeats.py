"""Shares of several processes become one run; repeats of a run become one set of rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.load import fleet, schedule
from bench.load.callers import Callers
from bench.load.measurements import COLUMNS, Failure
from bench.load.raw_run import RawRun
from bench.load.schedule import Schedule
from bench.result import repeats, validity
from bench.result.record import measured


def part_of(share: Schedule, cpu: float = 0.2) -> RawRun:
    count = len(share.offsets_ns)
    columns = {name: np.zeros(count, dtype=np.int64) for name in COLUMNS}
    columns["index"] = share.first + np.arange(count) * share.step
    columns |= {name: share.offsets_ns + delay for delay, name in enumerate(repeats.INSTANTS)}
    return RawRun(columns, {}, share.offsets_ns, cpu, 5, 1, False, False, 2, start_ns=1_000)


def test_shares_merge_into_the_whole_schedule() -> None:
    whole = schedule.build("gamma:2", 300, 2, 5)
    parts = [part_of(whole.share(one, 3), cpu) for one, cpu in enumerate((0.1, 0.9, 0.3))]
    parts[0] = replace(parts[0], failures={"429": Failure(9, b"late")})
    parts[2] = replace(parts[2], failures={"429": Failure(2, b"first")}, exhausted=True)
    run = fleet.merge(parts, whole)
    assert np.array_equal(run.columns["due_ns"], whole.offsets_ns)
    assert run.columns["index"].tolist() == list(range(len(whole.offsets_ns)))
    assert np.array_equal(run.scheduled_ns, whole.offsets_ns)
    assert (run.generator_cpu, run.peak_in_flight, run.cap_hits, run.abandoned) == (0.9, 15, 3, 6)
    assert run.exhausted
    assert run.failures["429"].detail == b"first"
    # One overloaded share is enough: its requests were late, whatever the others did.
    assert validity.judge(run, run.columns, 0).generator_bound


def test_callers_are_dealt_out_whole() -> None:
    dealt = [Callers(10, 1.0).share(part, 4).users for part in range(4)]
    assert sorted(dealt) == [2, 2, 3, 3]


def test_repeats_lie_one_after_another_and_keep_their_own_warm_ups() -> None:
    raws = [replace(part_of(schedule.build("poisson", 100, 3, seed)), start_ns=seed * 10**10) for seed in (1, 2, 3)]
    cut = repeats.cut(raws, seed=1, warmup_s=1.0, end_s=3.0)
    columns = repeats.join(cut)
    told, window = repeats.window(cut, columns)
    assert [(one.seed, one.start_s, one.end_s) for one in told.repeats] == [(1, 1, 3), (2, 11, 13), (3, 21, 23)]
    assert told.requests == len(window["due_ns"]) == sum((raw.columns["due_ns"] >= 10**9).sum() for raw in raws)
    assert (np.diff(columns["due_ns"]) >= 0).all()
    for one in told.repeats:
        due_s = window["due_ns"][window["repeat"] == one.number] / 1e9
        assert ((due_s >= one.start_s) & (due_s < one.end_s)).all()
    assert np.array_equal(measured(columns, told.repeats), np.isin(columns["due_ns"], window["due_ns"]))


def test_one_invalid_repeat_makes_all_invalid_and_is_named() -> None:
    plan = schedule.build("poisson", 100, 3, 1)
    good, bad = part_of(plan), part_of(plan, cpu=0.95)
    each = [validity.judge(replace(one, cap_hits=0), one.columns, 0) for one in (good, bad)]
    verdict = validity.worst(each)
    assert not verdict.ok
    assert verdict.generator_cpu == 0.95
    assert all(reason.startswith("repeat 2 of 2: ") for reason in verdict.reasons)
