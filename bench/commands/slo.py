"""``bench slo``: the highest rate at which latency still meets an objective."""

from __future__ import annotations

import argparse
import math
import sys
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


def run(asked: argparse.Namespace, given: Sequence[str]) -> int:
    arguments.check_output(asked.output)
    arguments.check_directory(asked.junit)
    name = next(one for one in PERCENTILES if getattr(asked, one) is not None)
    objective = Objective(PERCENTILES[name], duration_ms(getattr(asked, name)))
    config = replace(arguments.run_config(asked, given, TRIAL_S), objective=objective, observe=False)
    probe.reach(config.target)
    ceiling = calibrate(config).usable_rate_per_s if config.calibrate else math.inf
    # A trial with too few requests for the percentile has no result.
    first = max(asked.start, min_samples(objective.quantile) * 1.2 / config.duration_s)
    arguments.say(
        f"at most {capacity.MAX_STEPS + len(capacity.NEAR) * (1 + asked.replicates)} trials of {config.total_s:g} s, "
        f"usually about {12 + len(capacity.NEAR) * (1 + asked.replicates)}"
    )
    with arguments.progress(config.total_s) as watch:
        runner = sweep.runner(config, watch, lambda *_: None)
        search = capacity.Search(
            measure(config, runner), objective.quantile, objective.limit_ms, ceiling, asked.replicates
        )
        try:
            found, status, ended = search.run(first), OK, None
        except (KeyboardInterrupt, Unusable) as why:
            if not search.trials:
                raise
            found, status = search.fit(), arguments.ended_early(why, "the search is partial")
            ended = str(why) or "interrupted"
    if asked.output is not None:
        sweep.write_json(asked.output, found)
    if arguments.prints_json(asked):
        sys.stdout.write(sweep.to_json(found).decode())
    else:
        print(capacity.summary(found, objective.name))
    if asked.junit is not None:
        outcome = checks.of_slo(found, objective.name, asked.at_least, ended)
        junit.write(asked.junit, f"bench slo {config.target.url}", outcome)
    if status == OK and asked.at_least is not None and capacity.falls_short(found, asked.at_least):
        arguments.say(f"fewer than {asked.at_least:g} requests/s: {capacity.summary(found, objective.name)}")
        return INVALID
    return status if found.rate_per_s is not None or status else INVALID


def measure(config: RunConfig, runner: ladder.Measure) -> capacity.Measure:
    """The trials of the search: each is one load at a rate, with its own seed."""
    objective = config.objective
    assert objective is not None

    def trial(rate_per_s: float, number: int) -> capacity.Trial:
        rung = ladder.patiently(runner, rate_per_s, config.seed + number * ladder.ATTEMPTS)
        refused = rung.latency is None or percentile_name(objective.quantile) not in rung.latency
        found = capacity.Trial(rate_per_s, latency_ms(rung, objective), rung.generator and refused, rung.errors)
        state = "the generator was the limit" if found.generator else f"{found.ms:,.1f} ms"
        if rung.errors:
            state = f"{rung.error_share:.1%} of requests failed ({rung.errors})"
        elif rung.saturated and not found.generator:
            state = f"the server is saturated at {rung.goodput_per_s:,.1f}/s"
        arguments.say(f"trial {number + 1}: {rate_per_s:,.1f}/s, {percentile_name(objective.quantile)} {state}")
        return found

    return trial


def latency_ms(rung: ladder.Rung, objective: Objective) -> float:
    """The percentile, in ms; infinite if requests failed or the server fell behind.

    Raises Unusable for too few responses.
    """
    if rung.error_share > MAX_ERROR_SHARE or rung.saturated or rung.latency is None:
        return math.inf
    found = rung.latency.get(percentile_name(objective.quantile))
    if found is None:  # the generator was late at this percentile
        return math.inf
    if found.value_ms is None:
        raise Unusable(f"{found.samples} responses are too few for this percentile: raise --duration or --from")
    return math.inf if found.at_least else found.value_ms
