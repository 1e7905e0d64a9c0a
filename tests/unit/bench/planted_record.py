"""The record of planted rows, as a run would leave it."""

from __future__ import annotations

from datetime import UTC, datetime

from bench.experiments.config import RunConfig
from bench.experiments.recording import Surroundings, build
from bench.load import payload_set, target
from bench.load.payload import Payload
from bench.load.raw_run import RawRun
from bench.load.server_timing import CARRIERS
from bench.observe import environment
from bench.result.record import RunRecord
from tests.unit.bench import planted

RATE_PER_S = 450.0
COMMAND = "python -m bench run http://127.0.0.1:8080 --rate 450"
CONFIG = RunConfig(
    target=target.parse("http://127.0.0.1:8080/v2/models/planted/infer"),
    payload=payload_set.single(Payload("planted", "application/json", b"{}")),
    rate_per_s=RATE_PER_S,
    users=None,
    arrivals="poisson",
    duration_s=20.0,
    warmup_s=2.0,
    seed=1,
    timeout_s=10.0,
    connections=256,
    carrier=CARRIERS["header"],
    calibrate=False,
    command=COMMAND,
)


def planted_record(rows: planted.Columns, config: RunConfig = CONFIG) -> RunRecord:
    """The record of planted rows, which hold the warm-up of ``config`` and its duration."""
    raw = RawRun(rows, {}, rows["due_ns"], 0.3, 40, 0, exhausted=False, interrupted=False, abandoned=0)
    return build(config, [raw], datetime.now(UTC), Surroundings(environment.describe()))[0]
