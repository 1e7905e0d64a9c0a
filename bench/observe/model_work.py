"""Model work: runs, rows, padding and costs of each model, or each step of a pipeline, from the server's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[str, Sequence[tuple[Labels, float]]]
Ends = tuple[tuple[float, Samples], tuple[float, Samples]]
"""The first and the last scrape of a measured span, each with its instant in seconds."""
Key = tuple[str, str, str]
"""Model, version, step."""
STAGES = ("queue", "assemble", "compute")
MODEL, STEP = "slipway_", "slipway_step_"


@dataclass(frozen=True, slots=True)
class Cost:
    """An entry of the cost table: ``ms`` of a run of ``rows`` rows, padded to ``length`` (0: without padding)."""

    length: int
    rows: int
    ms: float


@dataclass(frozen=True, slots=True)
class Choices:
    """How the server batches and admits requests to a model.

    ``max_batch_size``: rows in a batch. ``max_queue_delay_ms``: how long an idle instance waits for more requests.
    ``max_queue_ms``: a request with a longer predicted wait is shed. ``inline``: runs take place on the event loop.
    ``contention``: the time of a run while all instances run, over its time alone. ``shared``: other models use the
    same device.
    """

    max_batch_size: int
    max_queue_delay_ms: float
    max_queue_ms: float
    inline: bool
    contention: float
    shared: bool = False


@dataclass(frozen=True, slots=True)
class ModelWork:
    """The work of one model (``step`` empty) or of one step of a pipeline.

    ``seconds``: the time that the counters cover. ``busy``: mean number of computing instances; None if the server does
    not report it. ``real`` and ``padding``: computed positions (rows x length); both 0 without padding. ``costs``: the
    cost table. ``stages_ms``: for a step, the mean time of a request in each of ``STAGES``. ``choices``: None for a
    step, and if the server does not report them. ``cpu_share``: CPU time of the threads that run the model, over the
    time of the runs; None if unknown.
    """

    model: str
    version: str
    step: str
    seconds: float
    runs: float
    rows: float
    busy: float | None
    instances: int | None
    threads: int | None
    real: float
    padding: float
    file_bytes: float | None
    costs: tuple[Cost, ...]
    stages_ms: dict[str, float]
    choices: Choices | None = None
    cpu_share: float | None = None

    @property
    def name(self) -> str:
        return f"step {self.step}" if self.step else f"model {self.model}"

    @property
    def utilisation(self) -> float | None:
        """The mean share of the instances that computed; None if unknown."""
        return self.busy / self.instances if self.busy is not None and self.instances else None

    @property
    def waste(self) -> float | None:
        """The share of computed positions that were padding; None without padding."""
        return self.padding / (self.real + self.padding) if self.real > 0 else None

    def usual_costs(self) -> tuple[Cost, ...]:
        """The costs at the shortest tabled length that fits the mean row, else at the longest; ordered by rows."""
        mean_length = (self.real + self.padding) / self.rows if self.rows else 0.0
        lengths = sorted({cost.length for cost in self.costs})
        usual_length = next((length for length in lengths if length >= mean_length), lengths[-1] if lengths else 0)
        usual = [cost for cost in self.costs if cost.length == usual_length and cost.ms > 0]
        return tuple(sorted(usual, key=lambda cost: cost.rows))


def build(ends: Sequence[Ends]) -> tuple[ModelWork, ...]:
    """The work between the first and the last scrape of every measured span.

    A model without runs is left out: a server may have models that the load does not use.
    """
    if not ends:
        return ()
    last = ends[-1][1][1]
    seconds = sum(last_s - first_s for (first_s, _), (last_s, _) in ends)
    works = []
    for prefix in (MODEL, STEP):
        for key in dict.fromkeys(_key(labels) for labels, _ in last.get(f"{prefix}batch_rows_count", ())):
            growth = _Growth(prefix, key, ends)
            if growth.of("batch_rows_count") > 0:
                works.append(_work(prefix, key, seconds, growth, last))
    return tuple(works)


@dataclass(frozen=True, slots=True)
class _Growth:
    """The growth of the counters of one model or step, summed over all measured spans."""

    prefix: str
    key: Key
    ends: Sequence[Ends]

    def of(self, name: str, **labels: str) -> float:
        name = self.prefix + name
        return sum(
            (_value(last, name, self.key, labels) or 0.0) - (_value(first, name, self.key, labels) or 0.0)
            for (_, first), (_, last) in self.ends
        )


def _work(prefix: str, key: Key, seconds: float, growth: _Growth, last: Samples) -> ModelWork:
    reports_busy = _value(last, f"{prefix}run_seconds_total", key) is not None
    instances, threads = (_value(last, prefix + name, key) for name in ("instances", "compute_threads"))
    requests = growth.of("seconds_count", stage="compute") if key[2] else 0.0
    wall_s = growth.of("run_cpu_wall_seconds_total")
    return ModelWork(
        *key,
        seconds=seconds,
        runs=growth.of("batch_rows_count"),
        rows=growth.of("batch_rows_sum"),
        busy=growth.of("run_seconds_total") / seconds if reports_busy else None,
        instances=int(instances) if instances is not None else None,
        threads=int(threads) if threads is not None else None,
        real=growth.of("padded_positions_total", kind="real"),
        padding=growth.of("padded_positions_total", kind="padding"),
        file_bytes=_value(last, "slipway_model_file_bytes", (*key[:2], "")),
        costs=_costs(last, f"{prefix}cost_seconds", key),
        stages_ms={stage: growth.of("seconds_sum", stage=stage) / requests * 1e3 for stage in STAGES}
        if requests
        else {},
        choices=_choices(last, key) if not key[2] else None,
        cpu_share=growth.of("run_cpu_seconds_total") / wall_s if wall_s > 0 else None,
    )


def _choices(last: Samples, key: Key) -> Choices | None:
    names = ("max_batch_size", "max_queue_delay_seconds", "max_queue_seconds", "inline", "contention_ratio")
    values = [_value(last, MODEL + name, key) for name in names]
    if any(value is None for value in values):
        return None
    rows, delay_s, wait_s, inline, contention = (value or 0.0 for value in values)
    shared = _value(last, MODEL + "device_shared", key)
    return Choices(int(rows), delay_s * 1e3, wait_s * 1e3, bool(inline), contention, bool(shared))


def _costs(last: Samples, name: str, key: Key) -> tuple[Cost, ...]:
    return tuple(
        Cost(int(by_name.get("length", 0)), int(by_name["batch_size"]), value * 1e3)
        for labels, value in last.get(name, ())
        for by_name in (dict(labels),)
        if _key(labels) == key
    )


def _key(labels: Labels) -> Key:
    by_name = dict(labels)
    return by_name.get("model", ""), by_name.get("version", ""), by_name.get("step", "")


def _value(samples: Samples, name: str, key: Key, required: Mapping[str, str] | None = None) -> float | None:
    """The value of the first sample with this key and the wanted labels; None without one."""
    required_labels = set((required or {}).items())
    return next(
        (value for labels, value in samples.get(name, ()) if _key(labels) == key and required_labels <= set(labels)),
        None,
    )
