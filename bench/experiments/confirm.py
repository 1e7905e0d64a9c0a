"""Confirmation: experiments on the first causes of a verdict, each against the unchanged load and a placebo."""

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
from ..load.payload_set import PayloadSet, single, twice_as_long
from ..load.raw_run import Watch
from ..load.server_timing import MISSING
from ..load.wire import render
from ..observe import held
from ..result.repeats import Columns
from . import alternation, amounts, blocks, copies
from .alternation import NEW, OLD, PLACEBO
from .blocks import Variant
from .config import RunConfig
from .run import execute
from .slowdown import Slower, slowed

BLOCK_S, TAIL_BLOCK_S = 1.5, 2.0
"""The shortest length of a block. A cause of the tail needs more responses. At a low rate blocks are longer."""
WARMUP_S, BETWEEN_S = 0.4, 0.3
"""Seconds of warm-up in each block, and seconds between blocks."""
MOST_EXPERIMENTS = 2
LIMIT_S = 80.0
"""The time for all experiments. The rest of the 90 s that the user is told goes to starting and stopping servers."""
FIRST_SHARE = 0.6
"""The first experiment gets this share of the time if another cause can be tested, too."""
FRESH = 5
"""Copies of the server to start, to measure the first requests of each."""
SPARE_S = 10.0
"""A slowdown ends by itself this long after its block should have ended."""
SPARE_CONNECTIONS = 8
"""Connections to open before a request needs them, in the experiment on connection setup."""
LIKELY_SHARE = 0.9
"""Arrivals are random: most blocks have at least this share of the expected number."""
LATENCY = "latency"
APPLIED, LEAST_CHECKED_US = 0.5, 200
"""An injected delay counts as applied if the stage took longer by this share of it. Shorter delays than the second
value, in us, are not checked, because noise is larger."""


@dataclass(frozen=True, slots=True)
class Bodies:
    """Functions that make other bodies for the same model; None for bodies that cannot be made."""

    binary: Callable[[], PayloadSet] | None = None
    half_rows: Callable[[], PayloadSet] | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """The inputs of the experiments on a run.

    ``config``: the load of one block. ``subject``: what can be changed. ``measured``: the data for forecasts; None for
    a server that cannot be simulated. ``pids``: the server's processes; empty if it does not run on this machine.
    """

    config: RunConfig
    subject: Subject
    bodies: Bodies
    measured: Measured | None
    pids: tuple[int, ...] = ()


Progress = Callable[[str], None]


def confirm(
    initial: Verdict,
    trial: Trial,
    watch: Callable[[], Watch | None],
    say: Progress,
    run: blocks.Execute = execute,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """The verdict after at most ``MOST_EXPERIMENTS`` experiments on its first causes, until one is proven.

    Causes without an experiment keep their confidence. ``say``: prints progress. Ctrl-C undoes all changes and raises
    KeyboardInterrupt.
    """
    causes, ruled_out, tried = list(initial.causes), list(initial.ruled_out), list[str]()
    end_s = clock() + LIMIT_S
    testable = [cause for cause in initial.causes if _experiment_for(cause, initial, trial, ())[0] is not None]
    for cause in initial.causes:
        experiment, reason = _experiment_for(cause, initial, trial, ruled_out)
        if experiment is None:
            if cause.name != NONE:
                say(f"{cause.name}: {reason}; apply the remedy, measure again and compare")
            continue
        is_last_chance = tried or len(testable) == 1
        limit_s = (end_s - clock()) * (1.0 if is_last_chance else FIRST_SHARE)
        say(f"{cause.name}: {experiment.words}, alternating with the unchanged load, {limit_s:.0f} s at most")
        try:
            with ExitStack() as stack:
                session = _Session(watch, run, clock, clock() + limit_s, stack)
                confidence, finding = _run_experiment(experiment, cause, trial, session)
        except (Unusable, OSError) as error:  # the record that is explained stays valid
            confidence, finding = None, f"the experiment failed: {error}"
        updated = replace(cause, confidence=confidence or cause.confidence, evidence=(*cause.evidence, finding))
        say(f"{cause.name}: {updated.confidence}; {finding}")
        causes[causes.index(cause)] = updated
        if confidence == RULED_OUT:
            causes.remove(updated)
            ruled_out.append(cause.name)
        tried.append(cause.name)
        if confidence == PROVEN or len(tried) == MOST_EXPERIMENTS:
            break
    ranked = verdict.rank(causes or [_nothing_left(initial, trial.config.command)], ruled_out)
    return replace(ranked, tried=tuple(tried))


def _experiment_for(
    cause: Cause, initial: Verdict, trial: Trial, ruled_out: Sequence[str]
) -> tuple[Experiment | None, str]:
    """The experiment for a cause, or None and the reason."""
    experiment = interventions.experiment(cause.name, trial.subject)
    if experiment is None:
        return None, "no experiment can test it from this machine"
    likely = [other.name for other in initial.causes if other.confidence == LIKELY and other.name not in ruled_out]
    confounders = [name for name in likely if name in experiment.unless]
    if confounders:
        return None, f"{experiment.words} would have the same effect if {' or '.join(confounders)} were the cause"
    return experiment, ""


def _nothing_left(initial: Verdict, command: str) -> Cause:
    text = f"the experiments ruled out {', '.join(cause.name for cause in initial.causes)}"
    return Cause(NONE, UNDECIDED, (text,), "Nothing is proven. Measure again for longer.", Gain(None, None), command)


@dataclass(frozen=True, slots=True)
class _Session:
    """How the blocks of one experiment are measured. ``end_s``: its latest end by ``clock``.

    ``stack``: undoes what the experiment changes, when it ends.
    """

    watch: Callable[[], Watch | None]
    run: blocks.Execute
    clock: Callable[[], float]
    end_s: float
    stack: ExitStack


def _run_experiment(experiment: Experiment, cause: Cause, trial: Trial, session: _Session) -> tuple[str | None, str]:
    """The confidence after one experiment (None: unchanged), and the finding. Raises Unusable if it is not possible."""
    if experiment.first_request:
        second_over_first, third_over_second = first_requests(trial, session)
        expected = interventions.expected(experiment, cause, trial.subject.p50_ms, trial.subject.p99_ms)
        return interventions.judge(second_over_first, third_over_second, expected)
    block_s = experiment.block_s or _block_s(experiment, trial.config.rate_per_s, session.end_s - session.clock())
    trial = replace(trial, config=replace(trial.config, duration_s=block_s))
    by_variant = variants(experiment, trial, session.stack)
    if trial.subject.own_ahead and not experiment.own:
        # Other programs may slow down the server, but not the generator, because late requests make blocks invalid.
        session.stack.enter_context(held.held(held.PRIORITY, (os.getpid(),), alone=True))
    if experiment.own:
        by_variant = {name: replace(variant, trust=False) for name, variant in by_variant.items()}
    requests = min(_expected_responses(variant.config) for variant in by_variant.values())
    can_simulate = trial.measured is not None and experiment.change is not None
    names = [experiment.percentile] if experiment.percentile else alternation.percentiles(requests, can_simulate)
    cycles = alternation.cycles(by_variant, names[0], session.end_s, session.watch, session.run, session.clock)
    effect = alternation.effect(cycles, names)
    alternation.require_change(by_variant, cycles)
    expected, is_simulated = _expected_effect(experiment, cause, trial, effect.name)
    can_rule_out = not effect.late and (is_simulated or not experiment.of_tail or effect.name == "p99")
    confidence, text = interventions.judge(effect.change, effect.placebo, expected, effect.agree, can_rule_out)
    return confidence, "; ".join(filter(None, (text.replace("p99", effect.name, 1), effect.lost)))


def first_requests(trial: Trial, session: _Session) -> tuple[Ratio, Ratio]:
    """Latency ratios of the first requests to fresh copies of the server: second over first, and third over second.

    Raises Unusable if a copy does not start, or does not answer, or if no time is left to start one.
    """
    config, latencies = trial.config, list[dict[str, blocks.Milliseconds]]()
    body, last_copy_s = config.payload.payloads[0], 0.0
    while len(latencies) < FRESH and session.clock() + last_copy_s < session.end_s:
        start_s = session.clock()
        with copies.copied(config.target, trial.pids, ()) as copy:
            latency_ms = burst.one_by_one(
                copy, render(copy, body, config.carrier, config.template), 3, config.timeout_s
            )
        latencies.append({str(number): {LATENCY: ms} for number, ms in enumerate(latency_ms)})
        last_copy_s = session.clock() - start_s
    if not latencies:
        raise Unusable("no time is left to start a copy of the server")
    second_over_first = blocks.ratio(latencies, "1", "0", LATENCY)
    third_over_second = blocks.ratio(latencies, "2", "1", LATENCY)
    return alternation.wide(second_over_first, len(latencies)), alternation.wide(third_over_second, len(latencies))


def variants(experiment: Experiment, trial: Trial, stack: ExitStack) -> dict[str, Variant]:
    """The unchanged load, the change, and the placebo if it differs from the unchanged load.

    ``stack``: stops the servers that are started here. Raises Unusable if the change cannot be made.
    """
    config = trial.config
    if experiment.hold:
        pids = (os.getpid(),) if experiment.own else trial.pids
        waits = amounts.of_generator() if experiment.own else amounts.of_hold(experiment.hold, pids)
        change = functools.partial(held.held, experiment.hold, pids, alone=experiment.own)
        return {OLD: Variant(config, amount=waits), NEW: Variant(config, change, amount=waits)}
    if experiment.flags:
        copied_configs = [
            replace(config, target=stack.enter_context(copies.copied(config.target, trial.pids, flags)))
            for flags in (experiment.flags, ())
        ]
        return {OLD: Variant(config), NEW: Variant(copied_configs[0]), PLACEBO: Variant(copied_configs[1])}
    if experiment.stage:
        by_variant = {OLD: Variant(config), NEW: _with_slowdown(config, experiment)}
        if experiment.rival is not None:
            by_variant[PLACEBO] = _with_slowdown(config, experiment.rival)
        return by_variant
    baseline = config
    if experiment.load == "one_caller":
        baseline = replace(config, users=interventions.ONE_AT_A_TIME, rate_per_s=None)
    if experiment.load == "white_space":
        baseline = replace(config, users=1, rate_per_s=None)
    amount = amounts.of_connections() if experiment.load == "opened_ahead" else None
    return {OLD: Variant(baseline, amount=amount), NEW: Variant(_changed_load(experiment, trial), amount=amount)}


def _with_slowdown(config: RunConfig, experiment: Experiment) -> Variant:
    """The load while a stage is slowed down. Its check fails for a model without that stage."""

    def check(columns: Columns) -> None:
        stage_ns = columns[f"{experiment.stage}_ns"]
        stage_ns = stage_ns[stage_ns != MISSING]
        if not len(stage_ns) or np.median(stage_ns) / 1e3 < experiment.stage_us + APPLIED * experiment.extra_us:
            raise Unusable(
                f"the server cannot slow down {experiment.stage} for this model: it took no longer than before"
            )

    slower = Slower(experiment.stage, experiment.extra_us)
    change = functools.partial(slowed, config.target, slower, config.total_s + SPARE_S)
    return Variant(config, change, check if experiment.extra_us >= LEAST_CHECKED_US else lambda _columns: None)


def _changed_load(experiment: Experiment, trial: Trial) -> RunConfig:
    config, bodies, kind = trial.config, trial.bodies, experiment.load
    if kind == "lower_rate":
        assert experiment.change is not None
        return replace(config, rate_per_s=(config.rate_per_s or 0.0) * experiment.change.rate)
    if kind == "fewer_users":
        return replace(config, users=(config.users or 0) // 2)
    if kind == "one_caller":
        return replace(config, users=1, rate_per_s=None)
    if kind == "opened_ahead":
        return replace(config, spare=SPARE_CONNECTIONS)
    if kind == "smallest":
        return replace(config, payload=single(min(config.payload.payloads, key=lambda body: len(body.body))))
    if kind == "white_space":
        return replace(config, users=1, rate_per_s=None, payload=twice_as_long(config.payload))
    make_bodies = {"binary": bodies.binary, "half_rows": bodies.half_rows}[kind]
    if make_bodies is None:
        raise Unusable("other bodies can only be made for a generated payload: measure again with --payload generate")
    return replace(config, payload=make_bodies())


def _block_s(experiment: Experiment, rate_per_s: float | None, limit_s: float) -> float:
    """Seconds of a block: enough responses for p90 for a cause of the tail, and for p50 for another cause.

    It is limited so that ``LEAST_CYCLES`` cycles fit into ``limit_s``, and is never below ``BLOCK_S`` or
    ``TAIL_BLOCK_S``.
    """
    shortest_s, percentile = (TAIL_BLOCK_S, "p90") if experiment.of_tail else (BLOCK_S, "p50")
    blocks_per_cycle = 6 if experiment.rival is not None or experiment.flags else 4
    longest_s = limit_s / (alternation.LEAST_CYCLES * blocks_per_cycle) - WARMUP_S - BETWEEN_S
    needed_s = alternation.NEEDED[percentile] / (LIKELY_SHARE * (rate_per_s or math.inf))
    return max(min(needed_s, longest_s), shortest_s)


def _expected_responses(config: RunConfig) -> float:
    """The number of responses to expect in a block. For a closed loop, whose rate is unknown: enough for p50."""
    if config.rate_per_s is None:
        return alternation.NEEDED["p50"]
    return LIKELY_SHARE * config.rate_per_s * config.duration_s


def _expected_effect(experiment: Experiment, cause: Cause, trial: Trial, name: str) -> tuple[Ratio | None, bool]:
    """The effect that the cause predicts (None if unknown), and whether it comes from a simulation.

    Otherwise it comes from the gain in the verdict.
    """
    if trial.measured is not None and experiment.change is not None:
        try:
            prediction = forecast.forecast(trial.measured, experiment.change).predictions[name]
            return Ratio(prediction.ratio, prediction.low, prediction.high), True
        except NoForecast:
            pass
    subject = trial.subject
    at_ms = subject.latency_ms.get(name, subject.p50_ms) if name != "p99" else None
    return interventions.expected(experiment, cause, subject.p50_ms, subject.p99_ms, at_ms), False
