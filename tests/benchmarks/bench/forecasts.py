"""Forecasts against real servers: changes of six kinds on several models, each forecast and then tried.

    python -m tests.benchmarks.bench forecast --results forecast.jsonl --only "dense 1024"

All pairs take about 30 minutes, and need a machine that does nothing else. Every pair is printed when it is done, and
kept in the file, so that the models can be measured one by one. Forecasts are made as ``bench whatif`` makes them: a
slowdown is tried first, and its error and those of earlier pairs of the model are known to the next.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.errors import Unusable
from bench.experiments import forecasting, verify
from bench.experiments.config import RunConfig
from bench.experiments.run import execute
from bench.explain.changes import Change
from bench.explain.forecast import Measured
from bench.explain.ratio import Ratio
from bench.explain.workload import NoForecast
from bench.load import generate, payload_set, probe, target
from bench.peers import networks
from bench.result import verifications
from bench.result.verifications import Verification
from tests.benchmarks.bench.figure import Figure, at_least
from tests.benchmarks.bench.kept import Kept, Row
from tests.integration import sample_models
from tests.integration.server_process import ServerProcess, server_process
from tests.unit.bench.planted_record import CONFIG

LOAD = 0.4
"""Of the capacity: with the rate x1.8 it is 72 %."""
RECORD_S, BLOCK_S, WARMUP_S, ROUNDS = 20.0, 3.5, 0.5, 3
BLOCK_REQUESTS = 560
"""A p99 needs 473 responses."""
MAX_RATE_PER_S = 400.0
LARGEST = 8
TIMER_US = 3_000
PAIRS_NEEDED, WITHIN, HELD = 40, 0.15, 0.85
RATES, SIZES = (0.6, 1.4, 1.8), (4, 6)
CHANGES = (
    "slowdown",
    *(f"rate x{times}" for times in RATES),
    "timer",
    *(f"batch size {size}" for size in SIZES),
    *("instances", "binary"),
)
"""The changes that are tried on every model."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model for the benchmark. ``make``: writes it at a path, and returns what a server loads."""

    name: str
    make: Callable[[Path], Path]


def dense(width: int, layers: int) -> Callable[[Path], Path]:
    """A chain of square matrices with Relu between them: float32 [n, width] to [n, width]."""

    def make(path: Path) -> Path:
        random = np.random.default_rng(width)
        nodes, weights, last = [], [], "x"
        for layer in range(layers):
            matrix = (random.standard_normal((width, width)) / math.sqrt(width)).astype(np.float32)
            weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
            nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"h{layer}"]))
            last = "y" if layer == layers - 1 else f"r{layer}"
            nodes.append(helper.make_node("Relu", [f"h{layer}"], [last]))
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in ("x", "y")]
        graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], weights)
        path.mkdir(parents=True)
        opset = helper.make_opsetid("", 17)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path / "model.onnx")
        return path / "model.onnx"

    return make


def convolutions(path: Path) -> Path:
    """About 3 ms a row, whose weights stay in the caches of a core; batches gain nothing."""
    path.mkdir(parents=True)
    networks.convolutions(path / "model.onnx", layers=24)
    return path / "model.onnx"


def waiting(wait_us: int, spend_us_per_row: int, width: int = 4) -> Callable[[Path], Path]:
    """A fake model that waits without the CPU, and computes for each row."""
    return lambda path: sample_models.fake(
        path, wait_us=wait_us, spend_us_per_row=spend_us_per_row, width=width, batch_sizes=(1, 2, 4, LARGEST)
    )


MODELS = (
    Model("waits 3 ms", waiting(3_000, 150)),
    Model("waits 10 ms", waiting(10_000, 300)),
    Model("python, 2 ms", waiting(500, 1_500)),
    Model("wide rows", waiting(4_000, 200, width=2_000)),
    Model("dense 1024 x 6", dense(1024, 6)),
    Model("convolutions", convolutions),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One forecast that was tried. ``seen``: None where there was no forecast, for the reason ``why``."""

    model: str
    kind: str
    change: str
    seen: Verification | None
    why: str = ""


@dataclass(slots=True)
class Site:
    """The servers of one model: the base, and those with a change, started when a pair needs them. ``record``: where
    the record of the base would be, beside the log of verifications."""

    name: str
    model: Path
    folder: Path
    record: Path
    stack: ExitStack

    def serve(self, *flags: str) -> ServerProcess:
        folder = self.folder / f"server{len(list(self.folder.iterdir()))}"
        common = ("--threads", "1", "--slowdowns", "--inline-below-us", "0", "--max-queue-ms", "5000")
        return self.stack.enter_context(server_process(folder, self.model, *common, *flags)).ready()

    def learn(self, pair: Pair) -> None:
        if pair.seen is not None:
            verifications.append(self.record, pair.seen)


def forecasts(kept: Kept) -> list[Figure]:
    """The pairs that ``kept`` wants are measured; the figures are over all that it has."""
    for model in MODELS:
        wanted = [change for change in CHANGES if kept.wants(_title(model.name, change))]
        if not wanted:
            continue
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            root = Path(folder)
            (root / "servers").mkdir()
            site = Site(model.name, model.make(root / "model"), root / "servers", root / "base.json", stack)
            for known in map(_pair, kept.rows([_title(model.name, change) for change in CHANGES])):
                site.learn(known)
            try:
                for change, pair in _pairs(site, wanted):
                    kept.add(_row(_title(model.name, change), pair))
                    site.learn(pair)
                    print(line(pair), flush=True)
            except NoForecast as why:
                print(f"{model.name}: its base cannot be used: {why}", flush=True)
    pairs = [_pair(row) for row in kept.rows([_title(model.name, change) for model in MODELS for change in CHANGES])]
    return [*(_figure(one) for one in pairs), *summary(pairs)]


def _title(model: str, change: str) -> str:
    return f"{model}: {change}"


def _row(title: str, pair: Pair) -> Row:
    return {"title": title, **asdict(pair)}


def _pair(row: Row) -> Pair:
    """The pair that ``_row`` made a row of."""
    seen = row["seen"]
    if seen is None:
        return Pair(row["model"], row["kind"], row["change"], None, row["why"])
    ratios = {side: {name: Ratio(**ratio) for name, ratio in seen[side].items()} for side in ("forecast", "observed")}
    return Pair(row["model"], row["kind"], row["change"], Verification(**{**seen, **ratios}), row["why"])


def summary(pairs: list[Pair]) -> list[Figure]:
    """The figures that ``bench`` claims, over all pairs with a forecast."""
    tried = [one.seen for one in pairs if one.seen is not None]
    near = [abs(math.exp(one.error("p99")) - 1) <= WITHIN for one in tried]
    held = [one.forecast["p99"].low <= one.observed["p99"].value <= one.forecast["p99"].high for one in tried]
    kinds = len({one.kind for one in pairs if one.seen is not None})
    return [
        at_least("pairs with a forecast", len(tried), PAIRS_NEEDED),
        at_least("kinds of changes", kinds, 6),
        Figure("no forecast", f"{len(pairs) - len(tried)}"),
        at_least("p99 within 15 %", float(np.mean(near)) if near else 0.0, HELD, "{:.0%}"),
        at_least("interval holds the observation", float(np.mean(held)) if held else 0.0, HELD, "{:.0%}"),
    ]


def line(pair: Pair) -> str:
    """A pair as text: forecast and observation of p99."""
    head = f"{pair.model:16} {pair.kind:12} {pair.change:36}"
    if pair.seen is None:
        return f"{head} no forecast: {pair.why}"
    told, seen = pair.seen.forecast["p99"], pair.seen.observed["p99"]
    verdict = "held" if told.low <= seen.value <= told.high else "MISSED"
    return (
        f"{head} forecast x{told.value:.2f} [{told.low:.2f}, {told.high:.2f}]  observed x{seen.value:.2f} "
        f"[{seen.low:.2f}, {seen.high:.2f}]  {verdict}"
    )


def _figure(pair: Pair) -> Figure:
    return Figure(f"{pair.model}: {pair.change}", line(pair)[67:])


def _pairs(site: Site, wanted: Sequence[str]) -> Iterator[tuple[str, Pair]]:
    """The wanted changes, each with its pair, after one record of the unchanged server."""
    server = site.serve("--instances", "1")
    config = _config(server, binary=False)
    trial = Trial(site, config, _measure(config))
    run_us = round(trial.base.service.ns(1) / 1e3)
    simple = {f"rate x{times}": ("rate", Change(rate=times)) for times in RATES}
    simple["slowdown"] = ("slowdown", Change(extra_us=max(run_us // 3, 100)))
    simple["timer"] = ("timer", Change(max_queue_delay_us=TIMER_US))
    sizes = {f"batch size {size}": size for size in SIZES}
    for change in wanted:
        if change in simple:
            yield change, trial.of(*simple[change], verify.Other())
        elif change in sizes:
            size = str(sizes[change])
            smaller = Change(max_batch_size=sizes[change])
            other = verify.Other(_url(site.serve("--instances", "1", "--max-batch-size", size)))
            yield change, trial.of("batch size", smaller, other)
        elif change == "instances":
            url = _url(site.serve("--instances", "2"))
            also = replace(config, target=target.parse(url + config.target.path), seed=config.seed + 50)
            yield change, trial.of("instances", Change(instances=2), verify.Other(url), also)
        else:
            binary = _config(server, binary=True, rate_per_s=config.rate_per_s)
            yield change, trial.of("binary", Change(binary=True), verify.Other(payload=binary.payload), binary)


def _url(server: ServerProcess) -> str:
    return f"http://127.0.0.1:{server.port}"


@dataclass(slots=True)
class Trial:
    """The base of a model, to which changes are compared. It is recorded again after the first refusal of a change."""

    site: Site
    config: RunConfig
    base: Measured

    def of(self, kind: str, change: Change, other: verify.Other, also: RunConfig | None = None) -> Pair:
        """The pair of a change. ``also``: a load that is recorded for the forecast."""
        try:
            try:
                seen = self._tried(change, other, also)
            except NoForecast:  # as a user would after such a refusal
                self.base = _measure(self.config)
                seen = self._tried(change, other, also)
        except (NoForecast, Unusable) as why:
            return Pair(self.site.name, kind, change.words, None, str(why))
        return Pair(self.site.name, kind, change.words, seen)

    def _tried(self, change: Change, other: verify.Other, also: RunConfig | None) -> Verification:
        others = [] if also is None else [_measure(also)]
        found = forecasting.of_measured(self.site.record, self.base, change, others)
        assert self.config.rate_per_s is not None
        lasts_s = max(BLOCK_S, BLOCK_REQUESTS / (self.config.rate_per_s * min(change.rate, 1.0)))
        block = replace(self.config, duration_s=lasts_s, warmup_s=WARMUP_S, observe=False)
        sides = verify.variants(block, change, other, 0)
        created = datetime.now(UTC).isoformat()
        return verify.verify(found, self.base.workload, sides, ROUNDS, lambda: None, created)


def _measure(config: RunConfig) -> Measured:
    """The record of a run, as far as forecasts need it; measured again where the generator was late."""
    for seed in range(config.seed, config.seed + 3):
        result, columns = execute(replace(config, seed=seed))
        if result.validity.ok:
            break
    return forecasting.measured(result, columns)


def _config(server: ServerProcess, *, binary: bool, rate_per_s: float | None = None) -> RunConfig:
    """A load of ``LOAD`` times the capacity that the server's cost table tells, with generated bodies of one row."""
    costs = [(int(key.split("batch_size=")[1].split(",")[0].rstrip("}")), ms) for key, ms in _costs(server).items()]
    capacity = max(rows / seconds for rows, seconds in costs)
    (model,) = json.loads(server.get("/admin/models").body)
    place = target.parse(f"http://127.0.0.1:{server.port}/v2/models/{model['name']}/infer")
    metadata = probe.metadata(place)
    assert metadata is not None
    bodies = generate.random_bodies(generate.inputs(metadata), 1, binary=binary, seed=1)
    return replace(
        CONFIG,
        target=place,
        payload=payload_set.PayloadSet(tuple(bodies), (1.0,) * len(bodies)),
        rate_per_s=rate_per_s or min(LOAD * capacity, MAX_RATE_PER_S),
        duration_s=RECORD_S,
        warmup_s=WARMUP_S,
        command="python -m tests.benchmarks.bench forecast",
    )


def _costs(server: ServerProcess) -> dict[str, float]:
    return {key: value for key, value in server.samples().items() if key.startswith("slipway_cost_seconds")}
