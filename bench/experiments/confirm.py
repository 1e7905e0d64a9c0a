"""Confirmation: the experiment for the first causes of a verdict, in blocks that take turns with the unchanged load."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace

from ..errors import Unusable
from ..explain import forecast, interventions, verdict
from ..explain.forecast import Measured
from ..explain.interventions import Experiment, Subject
from ..explain.ratio import Ratio
from ..explain.verdict import LIKELY, NONE, PROVEN, RULED_OUT, Cause, Gain, Verdict
from ..explain.workload import NoForecast
from ..load import burst
from ..load.payload_set import PayloadSet, single
from ..load.raw_run import Watch
from ..load.wire import render
from ..observe import held
from . import blocks, copies
from .blocks import Variant
from .config import RunConfig
from .run import execute
from .slowdown import Slower, slowed

ROUNDS = 5
WIDER = {4: 1.84, 5: 1.66}
"""Student's 99 % over his 95 %, by the number of rounds: a proof asks for more than an estimate."""
BLOCK_S = 2.0
WARMUP_S = 0.4
MOST_EXPERIMENTS = 2
SPARE_S = 10.0
NEEDED = {"p99": 473, "p90": 46, "p50": 9}
"""Responses for a percentile of one block."""
LATENCY = "latency"
OLD, NEW, PLACEBO = "old", "new", "placebo"


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
) -> Verdict:
    """The verdict after experiments on its first causes, ``MOST_EXPERIMENTS`` at most, until one is proven.

    Causes that cannot be changed from here stay as they are. On Ctrl-C everything is put back, and the exception
    passes.
    """
    causes, ruled_out, tried = list(found.causes), list(found.ruled_out), list[str]()
    for cause in found.causes:
        one = interventions.experiment(cause.name, trial.subject)
        if one is None:
            say(f"{cause.name}: no experiment from here can test it; after the remedy, measure again and compare")
            continue
        say(f"{cause.name}: {one.words}, {ROUNDS} rounds of {BLOCK_S:g} s")
        try:
            with ExitStack() as stack:
                confidence, why = _try(one, cause, trial, watch, run, stack)
        except Unusable as error:
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


def _nothing_left(found: Verdict, command: str) -> Cause:
    text = f"the experiment ruled out {', '.join(cause.name for cause in found.causes)}"
    return Cause(NONE, LIKELY, (text,), "Nothing is proven. Measure again for longer.", Gain(None, None), command)


def _try(
    one: Experiment,
    cause: Cause,
    trial: Trial,
    watch: Callable[[], Watch | None],
    run: blocks.Execute,
    stack: ExitStack,
) -> tuple[str | None, str]:
    if one.first_request:
        second, third = first_requests(trial)
        return interventions.judge(second, third, interventions.expected(one, cause, trial.subject.p99_ms))
    if one.block_s is not None:
        trial = replace(trial, config=replace(trial.config, duration_s=one.block_s))
    sides = variants(one, trial, stack)
    name = one.percentile or _percentile(min(_requests(side.config) for side in sides.values()))
    told = _told(one, cause, trial, name)
    seen = blocks.in_turn(sides, ROUNDS, watch, run, [name], attempts=1)
    if len(seen) not in WIDER:
        raise Unusable(f"only {len(seen)} of {ROUNDS} rounds were good: give the load generator a core of its own")
    effect, placebo = (wide(blocks.ratio(seen, side, OLD, name), len(seen)) for side in (NEW, PLACEBO))
    confidence, text = interventions.judge(effect, placebo, told)
    return confidence, text.replace("p99", name, 1)


def first_requests(trial: Trial) -> tuple[Ratio, Ratio]:
    """Of copies of the server, each fresh: the second request over the first one, and the third over the second."""
    config, found = trial.config, list[dict[str, blocks.Milliseconds]]()
    body = config.payload.payloads[0]
    for _ in range(ROUNDS):
        with copies.copied(config.target, trial.pids, ()) as place:
            took_ms = burst.one_by_one(place, render(place, body, config.carrier, config.template), 3, config.timeout_s)
        found.append({str(number): {LATENCY: ms} for number, ms in enumerate(took_ms)})
    second, third = (blocks.ratio(found, new, old, LATENCY) for new, old in (("1", "0"), ("2", "1")))
    return wide(second, len(found)), wide(third, len(found))


def variants(one: Experiment, trial: Trial, stack: ExitStack) -> dict[str, Variant]:
    """The unchanged load, the experiment, and its placebo. ``stack``: ends what is started for them.

    Raises Unusable if the change cannot be made.
    """
    config = trial.config
    if one.hold:
        ahead = functools.partial(held.held, one.hold, trial.pids)
        return {OLD: Variant(config), NEW: Variant(config, ahead), PLACEBO: Variant(config)}
    if one.flags:
        made = [
            replace(config, target=stack.enter_context(copies.copied(config.target, trial.pids, flags)))
            for flags in (one.flags, ())
        ]
        return {OLD: Variant(config), NEW: Variant(made[0]), PLACEBO: Variant(made[1])}
    if one.stage:
        lasts_s = config.total_s + SPARE_S
        rival = _slower(config, Slower(one.rival, one.extra_us), lasts_s) if one.rival else contextlib.nullcontext
        changed = _slower(config, Slower(one.stage, one.extra_us), lasts_s)
        return {OLD: Variant(config), NEW: Variant(config, changed), PLACEBO: Variant(config, rival)}
    old = replace(config, users=interventions.ONE_AT_A_TIME, rate_per_s=None) if one.load == "one_caller" else config
    return {OLD: Variant(old), NEW: Variant(_load(one.load, trial)), PLACEBO: Variant(old)}


def _slower(config: RunConfig, what: Slower, seconds: float) -> Callable[[], AbstractContextManager[None]]:
    return functools.partial(slowed, config.target, what, seconds)


def _load(key: str, trial: Trial) -> RunConfig:
    config, bodies = trial.config, trial.bodies
    if key == "half_rate":
        return replace(config, rate_per_s=(config.rate_per_s or 0.0) / 2)
    if key == "one_caller":
        return replace(config, users=1, rate_per_s=None)
    if key == "smallest":
        return replace(config, payload=single(min(config.payload.payloads, key=lambda body: len(body.body))))
    make = {"binary": bodies.binary, "half_rows": bodies.half_rows}[key]
    if make is None:
        raise Unusable("other bodies can only be made where the payload is generated")
    return replace(config, payload=make())


def _requests(config: RunConfig) -> float:
    """The responses to expect in a block of an open loop; enough for p50 in a closed one."""
    return NEEDED["p50"] if config.rate_per_s is None else 0.9 * config.rate_per_s * BLOCK_S


def _percentile(requests: float) -> str:
    return next((name for name, needed in NEEDED.items() if requests >= needed), "p50")


def _told(one: Experiment, cause: Cause, trial: Trial, name: str) -> Ratio | None:
    """The forecast: by simulation where the server can be simulated, else from the gain in the verdict."""
    change = one.change
    if trial.measured is not None and change is not None:
        try:
            found = forecast.forecast(trial.measured, change).predictions[name]
            return Ratio(found.ratio, found.low, found.high)
        except NoForecast:
            pass
    return interventions.expected(one, cause, trial.subject.p99_ms)


def wide(ratio: Ratio, rounds: int) -> Ratio:
    """A ratio over ``rounds`` pairs with its 99 % interval, from the 95 % one."""
    half = WIDER[rounds] * math.log(ratio.high / ratio.value)
    return Ratio(ratio.value, ratio.value * math.exp(-half), ratio.value * math.exp(half))
