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
from ..experiments import capacity as slo
from ..experiments import ladder, sweep
from ..experiments.run import Plan, calibrate
from ..load import probe
from ..report import junit
from ..result.objective import MAX_ERROR_SHARE, Objective, duration_ms, percentile_name
from ..result.statistics import min_samples

TRIAL_S = 10.0
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("slo", help="the highest rate that meets an objective, with an interval")
    arguments.add_request(command)
    limit = command.add_mutually_exclusive_group(required=True)
    for name in PERCENTILES:
        limit.add_argument(f"--{name}", metavar="50ms", help=f"what {name} may be at most")
    command.add_argument("--from", dest="start", type=arguments.positive, default=20.0, metavar="R", help="first rate")
    command.add_argument("--replicates", type=arguments.count, default=3, metavar="N", help="rounds at the end")
    arguments.add_arrivals(command)
    arguments.add_conditions(command, TRIAL_S, 1.0)
    command.add_argument(
        "--at-least", type=arguments.positive, metavar="R", help="exit with 1 when fewer requests/s than this meet it"
    )
    arguments.add_output(command)
    arguments.add_junit(command)
    command.set_defaults(execute=run)


def run(asked: argparse.Namespace, given: Sequence[str]) -> int:
    arguments.check_output(asked.output)
    arguments.check_directory(asked.junit)
    name = next(one for one in PERCENTILES if getattr(asked, one) is not None)
    objective = Objective(PERCENTILES[name], duration_ms(getattr(asked, name)))
    plan = replace(arguments.plan(asked, given, TRIAL_S), objective=objective, look=False)
    probe.reach(plan.target)
    ceiling = calibrate(plan).usable_rate_per_s if plan.calibrate else math.inf
    # A trial that cannot show the percentile shows nothing, however slow the server is.
    first = max(asked.start, min_samples(objective.quantile) * 1.2 / plan.duration_s)
    with arguments.progress(plan.total_s) as watch:
        runner = sweep.runner(plan, watch, lambda *_: None)
        search = slo.Search(measure(plan, runner), objective.quantile, objective.limit_ms, ceiling, asked.replicates)
        try:
            found, status, ended = search.run(first), OK, None
        except (KeyboardInterrupt, Unusable) as why:
            if not search.trials:
                raise
            found, status = search.fit(), arguments.ended_early(why, "the search is partial")
            ended = str(why) or "interrupted"
    if asked.output is not None:
        sweep.write_json(asked.output, found)
    if asked.json or not sys.stdout.isatty():
        sys.stdout.write(sweep.to_json(found).decode())
    else:
        print(slo.summary(found, objective.name))
    if asked.junit is not None:
        checks = junit.of_slo(found, objective.name, asked.at_least, ended)
        junit.write(asked.junit, f"bench slo {plan.target.url}", checks)
    if status == OK and asked.at_least is not None and slo.falls_short(found, asked.at_least):
        arguments.say(f"fewer than {asked.at_least:g} requests/s: {slo.summary(found, objective.name)}")
        return INVALID
    return status if found.rate_per_s is not None or status else INVALID


def measure(plan: Plan, runner: ladder.Measure) -> slo.Measure:
    """A trial of the search: one load at the rate, with a seed of its own."""
    objective = plan.objective
    assert objective is not None

    def trial(rate_per_s: float, number: int) -> slo.Trial:
        rung = ladder.patiently(runner, rate_per_s, plan.seed + number * ladder.ATTEMPTS)
        found = slo.Trial(rate_per_s, latency_ms(rung, objective), generator=rung.generator)
        state = "the generator was the limit" if found.generator else f"{found.ms:,.1f} ms"
        arguments.say(f"trial {number + 1}: {rate_per_s:,.1f}/s, {percentile_name(objective.quantile)} {state}")
        return found

    return trial


def latency_ms(rung: ladder.Rung, objective: Objective) -> float:
    """The percentile; infinite where the server failed requests or fell behind. Raises Unusable for too few answers."""
    if rung.error_share > MAX_ERROR_SHARE or rung.saturated or rung.latency is None:
        return math.inf
    found = rung.latency[percentile_name(objective.quantile)]
    if found.value_ms is None:
        raise Unusable(f"{found.samples} answers are too few for this percentile: raise --duration or --from")
    return math.inf if found.at_least else found.value_ms
