"""Confirmation: the experiment for the first causes of a verdict, beside the unchanged load and a placebo."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from ..errors import Unusable
from ..explain import forecast, interventions, verdict
from ..explain.forecast import Measured
from ..explain.interventions import Experiment, Subject
from ..explain.ratio import Ratio
from ..explain.verdict import LIKELY, NONE, PROVEN, RULED_OUT, UNDECIDED, Cause, Gain, Verdict
from ..explain.workload import NoForecast
from ..load import burst
from ..load.payload_set import PayloadSet, single
from ..load.raw_run import Watch
from ..load.server_timing import MISSING
from ..load.wire import render
from ..observe import held
from ..result.repeats import Columns
from . import alternation, blocks, copies
from .alternation import NEW, OLD, PLACEBO
from .blocks import Variant
from .config import RunConfig
from .run import execute
from .slowdown import Slower, slowed

BLOCK_S, TAIL_BLOCK_S = 1.5, 2.0
"""Of a block; a cause of the tail needs more responses. At a low rate blocks are longer."""
WARMUP_S, BETWEEN_S = 0.4, 0.3
MOST_EXPERIMENTS = 2
LIMIT_S = 80.0
"""Of all experiments together. The rest of 90 s goes to starts and ends."""
FIRST_SHARE = 0.6
"""Of the time, for the first experiment where another cause can be tested, too."""
FRESH = 5
"""Copies of the server, each fresh, for the first requests of each."""
SPARE_S = 10.0
SPARE_CONNECTIONS = 8
MOSTLY = 0.9
"""Arrivals come by chance: a block has this share of the expected ones at least, as a rule."""
LATENCY = "latency"
APPLIED, LEAST_CHECKED_US = 0.5, 200
"""An injected time was applied if the stage took this share of it more. A shorter time drowns in chance."""


@dataclass(frozen=True, slots=True)
class Bodies:
    """Other bodies for the same model, made on demand. None where they cannot be made."""

    binary: Callable[[], PayloadSet] | None = None
    half_rows: Callable[[], PayloadSet] | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """The load of a run for experiments: ``config`` of one block, what can be changed, and for forecasts ``measured``
    (None for a server that cannot be simulated), ``pids``: the server's processes if it runs here."""

    config: RunConfig
    subject: Subject
    bodies: Bodies
    measured: Measured | None
    pids: tuple[int, ...] = ()


Progress = Callable[[str], None]


def confirm(
    found: Verdict,
    trial: Trial,
    watch: Callable[[], Watch | None],
    say: Progress,
    run: blocks.Execute = execute,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """The verdict after experiments on its first causes, ``MOST_EXPERIMENTS`` at most, until one is proven.

    Causes that cannot be changed from here stay as they are. On Ctrl-C everything is put back, and the exception
    passes.
    """
    causes, ruled_out, tried = list(found.causes), list(found.ruled_out), list[str]()
    end_s = clock() + LIMIT_S
    able = [cause for cause in found.causes if _experiment(cause, found, trial, ())[0] is not None]
    for cause in found.causes:
        one, why_not = _experiment(cause, found, trial, ruled_out)
        if one is None:
            if cause.name != NONE:
                say(f"{cause.name}: {why_not}; after the remedy, measure again and compare")
            continue
        alone = tried or len(able) == 1
        limit_s = (end_s - clock()) * (1.0 if alone else FIRST_SHARE)
        say(f"{cause.name}: {one.words}, in blocks that take turns with the unchanged load, {limit_s:.0f} s at most")
        try:
            with ExitStack() as stack:
                confidence, why = _try(one, cause, trial, _Doing(watch, run, clock, clock() + limit_s, stack))
        except (Unusable, OSError) as error:  # of the run that it follows, nothing is lost
            confidence, why = None, f"the experiment failed: {error}"
        tested = replace(cause, confidence=confidence or cause.confidence, evidence=(*cause.evidence, why))
        say(f"{cause.name}: {tested.confidence}; {why}")
        causes[causes.index(cause)] = tested
        if confidence == RULED_OUT:
            causes.remove(tested)
            ruled_out.append(cause.name)
        tried.append(cause.name)
        if confidence == PROVEN or len(tried) == MOST_EXPERIMENTS:
            break
    ranked = verdict.rank(causes or [_nothing_left(found, trial.config.command)], ruled_out)
    return replace(ranked, tried=tuple(tried))


def _experiment(cause: Cause, found: Verdict, trial: Trial, ruled_out: Sequence[str]) -> tuple[Experiment | None, str]:
    """The experiment for a cause, or why there is none."""
    one = interventions.experiment(cause.name, trial.subject)
    if one is None:
        return None, "no experiment from here can test it"
    likely = [other.name for other in found.causes if other.confidence == LIKELY and other.name not in ruled_out]
    same = [name for name in likely if name in one.unless]
    return (None, f"{one.words} would change as much if {' or '.join(same)} were the cause") if same else (one, "")


def _nothing_left(found: Verdict, command: str) -> Cause:
    text = f"the experiment ruled out {', '.join(cause.name for cause in found.causes)}"
    return Cause(NONE, UNDECIDED, (text,), "Nothing is proven. Measure again for longer.", Gain(None, None), command)


@dataclass(frozen=True, slots=True)
class _Doing:
    """How blocks are sent, until when, and what ends with the experiment."""

    watch: Callable[[], Watch | None]
    run: blocks.Execute
    clock: Callable[[], float]
    end_s: float
    stack: ExitStack


def _try(one: Experiment, cause: Cause, trial: Trial, doing: _Doing) -> tuple[str | None, str]:
    """The confidence after one experiment, and why. Raises Unusable if it cannot be made."""
    if one.first_request:
        second, third = first_requests(trial, doing)
        return interventions.judge(
            second, third, interventions.expected(one, cause, trial.subject.p50_ms, trial.subject.p99_ms)
        )
    lasts_s = one.block_s or _block_s(one, trial.config.rate_per_s, doing.end_s - doing.clock())
    trial = replace(trial, config=replace(trial.config, duration_s=lasts_s))
    sides = variants(one, trial, doing.stack)
    if trial.subject.own_ahead and not one.own:
        # Other programs may slow the server down, but not the generator, which would spoil the blocks.
        doing.stack.enter_context(held.held(held.PRIORITY, (os.getpid(),)))
    if one.own:
        sides = {name: replace(side, trust=False) for name, side in sides.items()}
    requests = min(_requests(side.config) for side in sides.values())
    simulated = trial.measured is not None and one.change is not None
    names = [one.percentile] if one.percentile else alternation.percentiles(requests, simulated)
    seen = alternation.cycles(sides, names[0], doing.end_s, doing.watch, doing.run, doing.clock)
    found = alternation.effect(seen, names)
    told, simulated = _told(one, cause, trial, found.name)
    decides = not found.late and (simulated or not one.of_tail or found.name == "p99")
    confidence, text = interventions.judge(found.change, found.placebo, told, found.agree, decides)
    return confidence, "; ".join(filter(None, (text.replace("p99", found.name, 1), found.lost)))


def first_requests(trial: Trial, doing: _Doing) -> tuple[Ratio, Ratio]:
    """Of copies of the server, each fresh: the second request over the first one, and the third over the second.

    Raises Unusable if one does not start, or answer, or if no time is left for one.
    """
    config, found = trial.config, list[dict[str, blocks.Milliseconds]]()
    body, each_s = config.payload.payloads[0], 0.0
    while len(found) < FRESH and doing.clock() + each_s < doing.end_s:
        begun_s = doing.clock()
        with copies.copied(config.target, trial.pids, ()) as place:
            took_ms = burst.one_by_one(place, render(place, body, config.carrier, config.template), 3, config.timeout_s)
        found.append({str(number): {LATENCY: ms} for number, ms in enumerate(took_ms)})
        each_s = doing.clock() - begun_s
    if not found:
        raise Unusable("no time is left to start the server once more")
    second, third = (blocks.ratio(found, new, old, LATENCY) for new, old in (("1", "0"), ("2", "1")))
    return alternation.wide(second, len(found)), alternation.wide(third, len(found))


def variants(one: Experiment, trial: Trial, stack: ExitStack) -> dict[str, Variant]:
    """The unchanged load, the experiment, and its placebo if that is a change, too. ``stack``: ends what is started.

    Raises Unusable if the change cannot be made.
    """
    config = trial.config
    if one.hold:
        ahead = functools.partial(held.held, one.hold, (os.getpid(),) if one.own else trial.pids)
        return {OLD: Variant(config), NEW: Variant(config, ahead)}
    if one.flags:
        made = [
            replace(config, target=stack.enter_context(copies.copied(config.target, trial.pids, flags)))
            for flags in (one.flags, ())
        ]
        return {OLD: Variant(config), NEW: Variant(made[0]), PLACEBO: Variant(made[1])}
    if one.stage:
        sides = {OLD: Variant(config), NEW: _slower(config, one)}
        return sides if one.rival is None else {**sides, PLACEBO: _slower(config, one.rival)}
    old = replace(config, users=interventions.ONE_AT_A_TIME, rate_per_s=None) if one.load == "one_caller" else config
    return {OLD: Variant(old), NEW: Variant(_load(one, trial))}


def _slower(config: RunConfig, one: Experiment) -> Variant:
    """The load while a stage is slowed down, and the check that it was: not every model has every stage."""

    def check(columns: Columns) -> None:
        told_ns = columns[f"{one.stage}_ns"]
        told_ns = told_ns[told_ns != MISSING]
        if not len(told_ns) or np.median(told_ns) / 1e3 < one.stage_us + APPLIED * one.extra_us:
            raise Unusable(f"the server cannot slow down {one.stage} for this model: it took no longer than before")

    what = functools.partial(slowed, config.target, Slower(one.stage, one.extra_us), config.total_s + SPARE_S)
    return Variant(config, what, check if one.extra_us >= LEAST_CHECKED_US else lambda _columns: None)


def _load(one: Experiment, trial: Trial) -> RunConfig:
    config, bodies, key = trial.config, trial.bodies, one.load
    if key == "lower_rate":
        assert one.change is not None
        return replace(config, rate_per_s=(config.rate_per_s or 0.0) * one.change.rate)
    if key == "fewer_users":
        return replace(config, users=(config.users or 0) // 2)
    if key == "one_caller":
        return replace(config, users=1, rate_per_s=None)
    if key == "opened_ahead":
        return replace(config, spare=SPARE_CONNECTIONS)
    if key == "smallest":
        return replace(config, payload=single(min(config.payload.payloads, key=lambda body: len(body.body))))
    make = {"binary": bodies.binary, "half_rows": bodies.half_rows}[key]
    if make is None:
        raise Unusable("other bodies can only be made where the payload is generated")
    return replace(config, payload=make())


def _block_s(one: Experiment, rate_per_s: float | None, limit_s: float) -> float:
    """Long enough for p90 of a cause of the tail, and for p50 of another one, if there is time for all cycles then."""
    least_s, needed = (TAIL_BLOCK_S, "p90") if one.of_tail else (BLOCK_S, "p50")
    in_cycle = 6 if one.rival is not None or one.flags else 4
    most_s = limit_s / (alternation.LEAST_CYCLES * in_cycle) - WARMUP_S - BETWEEN_S
    return max(min(alternation.NEEDED[needed] / (MOSTLY * (rate_per_s or math.inf)), most_s), least_s)


def _requests(config: RunConfig) -> float:
    """The responses to expect in a block of an open loop; enough for p50 in a closed one."""
    if config.rate_per_s is None:
        return alternation.NEEDED["p50"]
    return MOSTLY * config.rate_per_s * config.duration_s


def _told(one: Experiment, cause: Cause, trial: Trial, name: str) -> tuple[Ratio | None, bool]:
    """The forecast: by simulation where the server can be simulated (True), else from the gain in the verdict."""
    change = one.change
    if trial.measured is not None and change is not None:
        try:
            found = forecast.forecast(trial.measured, change).predictions[name]
            return Ratio(found.ratio, found.low, found.high), True
        except NoForecast:
            pass
    return interventions.expected(one, cause, trial.subject.p50_ms, trial.subject.p99_ms, of_p99=name == "p99"), False
