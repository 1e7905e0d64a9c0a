"""Rules against chance: faults of any size, and runs without a fault, on simulated servers with random figures.

A fault may be too small to name. What must not happen is that another cause is called likely in its place, that a run
without a fault gets a cause, or that a missing observation counts as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bench.experiments import run
from bench.explain import judgement, refutation
from bench.explain.facts import Facts, Host, Model
from bench.explain.verdict import LIKELY, NAMES, NONE, Cause
from tests.unit.bench.known import known
from tests.unit.bench.planted_facts import HOST, LOAD, ONE_BY_ONE, burst, facts
from tests.unit.bench.planted_record import COMMAND, CONFIG, planted_record
from tests.unit.bench.worlds import World

Random = np.random.Generator
SEEDS = 8


def between(random: Random, low: float, high: float) -> float:
    """A size between two, each doubling as likely as another."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def at_ease(random: Random) -> World:
    """A server with a model of 1 to 6 ms, at a tenth to a third of what it can do."""
    fixed = between(random, 1, 6)
    return World(fixed=fixed, rate_per_s=between(random, 0.1, 0.33) * 1e3 / (fixed + 0.3))


FAULTS: dict[str, Callable[[Random], World]] = {
    "batch_timer": lambda r: replace(at_ease(r), timer=between(r, 0.5, 80)),
    "codec": lambda r: replace(at_ease(r), decode=between(r, 0.3, 40)),
    "bandwidth": lambda r: replace(at_ease(r), receive=between(r, 0.3, 80)),
    "input_size": lambda r: replace(
        at_ease(r), rate_per_s=8.0, seconds=60.0, long=1_000, long_share=0.1, per_position=between(r, 0.002, 0.1),
    ),
    "padding": lambda r: replace(
        at_ease(r), rate_per_s=120.0, fixed=1.0, long=600, long_share=0.1, per_position=between(r, 0.01, 0.04),
    ),
    "stall": lambda r: replace(at_ease(r), stop_every_s=between(r, 1, 3), stop=between(r, 60, 600)),
    "cold_start": lambda r: replace(at_ease(r), cold=between(r, 100, 3_000)),
    "generator": lambda r: replace(at_ease(r), lag=between(r, 0.5, 80), lag_share=between(r, 0.02, 1)),
    "capacity": lambda r: replace(at_ease(r), largest=1, rate_per_s=200.0, fixed=between(r, 4.5, 9)),
    "none": at_ease,
}  # fmt: skip
BESIDE = {"padding": {"input_size", "capacity"}, "input_size": {"padding", "capacity"}}
"""What such a fault brings with it: long inputs are among those that are padded, others wait behind them, and padding
uses up the capacity."""


def verdict(world: World, seed: int) -> list[Cause]:
    rows = world.rows(seed)
    config = replace(CONFIG, rate_per_s=world.rate_per_s, duration_s=world.seconds, warmup_s=0.0)
    found = known(run.judged(planted_record(rows, config), rows).verdict)
    return list(found.causes)


def likely(causes: list[Cause]) -> list[str]:
    return [one.name for one in causes if one.confidence == LIKELY and one.name != NONE]


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_any_size_is_named_or_nothing_is(name: str, tells: bool) -> None:
    random = np.random.default_rng(5)
    wrong, right = [], 0
    for seed in range(SEEDS):
        world = replace(FAULTS[name](random), tells=tells)
        found = likely(verdict(world, seed))
        right += found[:1] == [name]
        if found and found[0] not in {name, *BESIDE.get(name, ())}:
            wrong.append((found, world))
    assert not wrong
    # Most of the sizes are no small matter. Who tells no lengths tells no padding.
    assert name == NONE or right >= SEEDS // 2 or (name == "padding" and not tells)


def test_a_cache_makes_no_cause_of_its_two_levels() -> None:
    random = np.random.default_rng(3)
    for seed in range(SEEDS):
        assert likely(verdict(replace(at_ease(random), cached=random.uniform(0.1, 0.9)), seed)) == []


def noisy(random: Random, **fields: object) -> Facts:
    """A foreign server at ease on a shared machine, whose figures scatter."""
    alone_ms = between(random, 3, 30)
    cpu_ms = alone_ms * random.uniform(0.05, 0.3) if alone_ms > 10 else alone_ms * random.uniform(0.2, 0.9)
    cores = 0.04 * cpu_ms
    host = replace(
        HOST, server_cores=cores, busiest_thread=min(cores, 1.0), other_cores=random.uniform(0, 0.2),
        run_delay=random.uniform(0, 0.1) * cores, steal=random.uniform(0, 0.01), throttled=0.0,
    )  # fmt: skip
    probed = burst(
        alone_ms, cpu_ms=cpu_ms, run_delay_ms=random.uniform(0, 0.08) * cpu_ms, floor_ms=random.uniform(0.2, 1)
    )
    p50_ms = alone_ms * random.uniform(0.95, 1.1)
    made = facts(p50_ms, p50_ms * random.uniform(1.05, 1.6), host=host, burst=probed, quick_ms=0.95 * p50_ms)
    return replace(made, **fields)  # type: ignore[arg-type]


def slower(found: Facts, times: float, **fields: object) -> Facts:
    """The same with a p99 that the fault makes longer."""
    p99_ms = found.p99_ms * times
    return replace(found, p99_ms=p99_ms, slow={**found.slow, "residual": p99_ms}, **fields)  # type: ignore[arg-type]


def quota(random: Random) -> Facts:
    found, stopped = noisy(random), between(random, 0.02, 0.7)
    return slower(
        found,
        1 + 8 * stopped,
        host=replace(found.host, throttled=stopped, quota_cores=2 * (found.host.server_cores or 0.1)),
    )


def neighbour(random: Random) -> Facts:
    """A server with little work that waits for a core as long as it works, or three times as long."""
    found, times = noisy(random), between(random, 1, 3)
    probed = known(found.burst)
    cpu_ms = 0.6 * probed.alone_ms
    alone_ms = probed.alone_ms * (1 + 0.6 * times)
    worked = replace(probed, alone_ms=alone_ms, cpu_ms=cpu_ms, run_delay_ms=times * cpu_ms, staggered_ms=alone_ms)
    cores = 0.04 * cpu_ms
    host = replace(found.host, server_cores=cores, run_delay=times * cores, other_cores=random.uniform(0.8, 1.9))
    return slower(found, 1 + times, burst=worked, host=host, p50_ms=alone_ms)


def threads(random: Random) -> Facts:
    found = noisy(random)
    count, alone_ms = between(random, 5, 24), between(random, 60, 300)
    probed = burst(alone_ms, cpu_ms=1.9 * alone_ms, run_delay_ms=(count - 1.9) * alone_ms)
    host = replace(found.host, server_cores=0.4, run_delay=0.2 * (count - 1.9))
    return replace(slower(found, 1.0), p50_ms=alone_ms, p99_ms=1.4 * alone_ms, burst=probed, host=host)


def serial(random: Random) -> Facts:
    found, alone_ms, busy = noisy(random), between(random, 5, 60), random.uniform(0.5, 0.95)
    probed = burst(alone_ms, ONE_BY_ONE, cpu_ms=random.uniform(0.05, 0.4) * alone_ms)
    load = replace(LOAD, offered_per_s=busy * 1e3 / alone_ms, answered_per_s=busy * 1e3 / alone_ms)
    p99_ms = alone_ms * (1 + 2.3 * busy / (1 - busy))
    return replace(
        slower(found, 1.0),
        p50_ms=1.5 * alone_ms,
        p99_ms=p99_ms,
        burst=probed,
        load=load,
        slow={**found.slow, "residual": p99_ms},
    )


def far_away(random: Random) -> Facts:
    found, way_ms = noisy(random), between(random, 2, 150)
    probed = known(found.burst)
    alone_ms = probed.alone_ms + way_ms
    further = replace(probed, alone_ms=alone_ms, floor_ms=way_ms, staggered_ms=alone_ms, padded_ms=alone_ms)
    further = replace(further, together=burst(alone_ms).together)
    return replace(found, p50_ms=found.p50_ms + way_ms, p99_ms=found.p99_ms + way_ms, burst=further)


def other_client(random: Random) -> Facts:
    found, share = noisy(random), random.uniform(0.2, 0.9)
    probed = known(found.burst)
    host = replace(found.host, strangers=3.0, server_cores=0.5)
    return slower(found, 1 + 3 * share, host=host, burst=replace(probed, quiet_cores=0.5 * share))


def weights(random: Random) -> Facts:
    found, size, libraries = noisy(random), between(random, 3e8, 2e9), random.uniform(1.6e8, 3e8)
    read_ms = size / 1e10 * 1e3
    alone_ms = read_ms * random.uniform(0.9, 1.5)
    probed = burst(alone_ms, cpu_ms=0.95 * alone_ms)
    host = replace(found.host, own_bytes=size + libraries)
    return replace(found, p50_ms=alone_ms, p99_ms=1.1 * alone_ms, burst=probed, host=host)


ON_THE_MACHINE: dict[str, Callable[[Random], Facts]] = {
    "cpu_quota": quota,
    "neighbour": neighbour,
    "threads": threads,
    "serial": serial,
    "network_latency": far_away,
    "other_traffic": other_client,
    "model_size": weights,
    "none": noisy,
}
MANY = 200


@pytest.mark.parametrize("name", ON_THE_MACHINE)
def test_a_fault_of_the_machine_is_named_or_nothing_is(name: str) -> None:
    random = np.random.default_rng(11)
    first = [likely(list(judgement.judge(ON_THE_MACHINE[name](random), COMMAND).causes))[:1] for _ in range(MANY)]
    wrong = {one[0] for one in first if one} - {name}
    assert not wrong, {one: first.count([one]) for one in wrong}
    assert name == NONE or first.count([name]) >= MANY // 2


@pytest.mark.parametrize("name", ON_THE_MACHINE)
@pytest.mark.parametrize("missing", ["host", "burst", "host and burst"])
def test_a_missing_observation_makes_nothing_likely(name: str, missing: str) -> None:
    """Without what tells the cause, it or another one may be there: what is called likely is right nevertheless."""
    random = np.random.default_rng(12)
    for _ in range(MANY // 4):
        blind = without(ON_THE_MACHINE[name](random), missing)
        causes = list(judgement.judge(blind, COMMAND).causes)
        assert set(likely(causes)) <= {name}, [(one.name, one.evidence) for one in causes]
        assert not (causes[0].name == NONE and causes[0].confidence == LIKELY)


def without(found: Facts, missing: str) -> Facts:
    """The facts of a run without a probe, or of a server on another machine."""
    probed = found.burst if "burst" not in missing else None
    if "host" not in missing:
        return replace(found, burst=probed)
    if probed is not None:
        probed = replace(probed, cpu_ms=None, run_delay_ms=None, quiet_cores=None)
    return replace(found, burst=probed, host=Host())


def test_every_cause_but_none_can_be_refuted_and_its_evidence_can_be_missing() -> None:
    quiet = facts(6.0, 6.4, quick_ms=6.0, model=Model(requests_share=1.0))
    against = {name: refutation.against(name, quiet) for name in NAMES if name != NONE}
    assert all(against.values()), against
    seen_by_the_client_alone = {"capacity", "stall", "input_size", "cold_start", "connections", "generator"}
    blind = facts(burst=None, quick_ms=5.0, host=Host(), load=replace(LOAD, json_ms=None))
    assert set(refutation.unseen(blind)) == set(NAMES) - {NONE} - seen_by_the_client_alone
