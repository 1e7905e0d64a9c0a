"""``bench slo``: the highest rate at which latency still meets an objective."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace

from .. import arguments
from ..errors import Unusable
from ..exits import INVALID, OK
from ..experiments import capacity, ladder, sweep
from ..experiments.config import RunConfig
from ..experiments.run import calibrate
from ..load import probe
from ..report import checks, junit
from ..result.objective import MAX_ERROR_SHARE, Objective, duration_ms
from ..result.statistics import min_samples, percentile_name

TRIAL_S = 10.0
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("slo", help="the highest rate that meets an objective, with an interval")
    arguments.add_request(command)
    limit = command.add_mutually_exclusive_group(required=True)
    for name in PERCENTILES:
        limit.add_argument(f"--{name}", metavar="50ms", help=f"limit of {name}")
    command.add_argument("--from", dest="start", type=arguments.positive, default=20.0, metavar="R", help="first rate")
    command.add_argument(
        "--replicates", type=arguments.count, default=3, metavar="N", help="rounds of trials around the limit"
    )
    arguments.add_arrivals(command)
    arguments.add_conditions(command, TRIAL_S, 1.0)
    command.add_argument(
        "--at-least", type=arguments.positive, metavar="R", help="exit with 1 if the capacity is below this"
    )
    arguments.add_output(command)
    arguments.add_junit(command)
    command.set_defaults(execute=run)


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    arguments.check_output(args.output)
    arguments.check_directory(args.junit)
    name = next(percentile for percentile in PERCENTILES if getattr(args, percentile) is not None)
    objective = Objective(PERCENTILES[name], duration_ms(getattr(args, name)))
    config = replace(arguments.run_config(args, argv, TRIAL_S), objective=objective, observe=False)
    probe.reach(config.target)
    ceiling = calibrate(config).usable_rate_per_s if config.calibrate else math.inf
    # A trial with too few requests for the percentile has no result.
    first_rate = max(args.start, min_samples(objective.quantile) * 1.2 / config.duration_s)
    arguments.say(
        f"at most {capacity.MAX_STEPS + len(capacity.NEAR) * (1 + args.replicates)} trials of {config.total_s:g} s, "
        f"usually about {12 + len(capacity.NEAR) * (1 + args.replicates)}"
    )
    with arguments.progress(config.total_s) as watch:
        runner = sweep.runner(config, watch, lambda *_: None)
        search = capacity.Search(
            measure(config, runner), objective.quantile, objective.limit_ms, ceiling, args.replicates
        )
        try:
            result, status, early_reason = search.run(first_rate), OK, None
        except (KeyboardInterrupt, Unusable) as error:
            if not search.trials:
                raise
            result, status = search.fit(), arguments.ended_early(error, "the search is partial")
            early_reason = str(error) or "interrupted"
    arguments.give(args, result, lambda: print(capacity.summary(result, objective.name)))
    if args.junit is not None:
        outcome = checks.of_slo(result, objective.name, args.at_least, early_reason)
        junit.write(args.junit, f"bench slo {config.target.url}", outcome)
    if status == OK and args.at_least is not None and capacity.falls_short(result, args.at_least):
        arguments.say(f"fewer than {args.at_least:g} requests/s: {capacity.summary(result, objective.name)}")
        return INVALID
    return status if result.rate_per_s is not None or status else INVALID


def measure(config: RunConfig, runner: ladder.Measure) -> capacity.Measure:
    """A function that measures one trial of the search: one load at a rate, with a seed of its own."""
    objective = config.objective
    assert objective is not None

    def trial(rate_per_s: float, number: int) -> capacity.Trial:
        rung = ladder.patiently(runner, rate_per_s, config.seed + number * ladder.ATTEMPTS)
        is_refused = rung.latency is None or percentile_name(objective.quantile) not in rung.latency
        result = capacity.Trial(rate_per_s, latency_ms(rung, objective), rung.generator and is_refused, rung.errors)
        outcome = "the generator was the limit" if result.generator else f"{result.ms:,.1f} ms"
        if rung.errors:
            outcome = f"{rung.error_share:.1%} of requests failed ({rung.errors})"
        elif rung.saturated and not result.generator:
            outcome = f"the server is saturated at {rung.goodput_per_s:,.1f}/s"
        arguments.say(f"trial {number + 1}: {rate_per_s:,.1f}/s, {percentile_name(objective.quantile)} {outcome}")
        return result

    return trial


def latency_ms(rung: ladder.Rung, objective: Objective) -> float:
    """The percentile of the objective, in ms; infinite if requests failed, or the server was saturated.

    It is also infinite if the percentile is a time-out, or is refused because the generator was late. Raises Unusable
    for too few responses.
    """
    if rung.error_share > MAX_ERROR_SHARE or rung.saturated or rung.latency is None:
        return math.inf
    name = percentile_name(objective.quantile)
    percentile = rung.latency.get(name)
    if percentile is None:
        return math.inf
    if percentile.value_ms is None:
        raise Unusable(f"{percentile.samples} responses are too few for {name}: raise --duration or --from")
    return math.inf if percentile.at_least else percentile.value_ms
