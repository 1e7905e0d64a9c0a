"""The exposition: the metrics of one moment in the Prometheus text format.

It is made of copies, so that another thread can format it: with many models that takes longer than the event loop may.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from . import batch_times, choices, device_metrics, run_counters, steps
from .histograms import rows_buckets, seconds_buckets

if TYPE_CHECKING:
    from .metrics import ModelMetrics

log = logging.getLogger("slipway.metrics")


@contextlib.contextmanager
def entry(what: object) -> Iterator[None]:
    """Log the failure of one entry of a scrape, which goes on with the others."""
    try:
        yield
    except Exception:
        log.exception("reading metrics failed of=%s", what)


def _written(registry: CollectorRegistry, openmetrics: bool) -> bytes:
    if not openmetrics:
        return generate_latest(registry)
    text: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    return text


class Plain(Collector):
    """Families as :meth:`Exposition.plain` makes them, or as they were merged from those of several processes."""

    def __init__(self, families: Iterable[Mapping[str, Any]]) -> None:
        self._families = families
        self._exemplars = False

    def text(self, openmetrics: bool = False) -> bytes:
        """The Prometheus text format, or OpenMetrics, which has exemplars. May run on any thread, one at a time."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        self._exemplars = openmetrics
        return _written(registry, openmetrics)

    def describe(self) -> Sequence[Any]:
        """Empty, as in :class:`Exposition`."""
        return ()

    def collect(self) -> Iterator[Any]:
        for one in self._families:
            family = Metric(one["name"], one["text"], one["type"])
            noted = {key_of(name, labels): given for name, labels, *given in one.get("exemplars", ())}
            for name, labels, value in one["samples"]:
                given = noted.get(key_of(name, labels)) if self._exemplars else None
                family.add_sample(name, labels, value, exemplar=None if given is None else Exemplar(*given))
            yield family


def _plain(family: Metric) -> dict[str, Any]:
    plain = {
        "name": family.name,
        "type": family.type,
        "text": family.documentation,
        "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
    }
    noted = [(one.name, one.labels, one.exemplar) for one in family.samples if one.exemplar is not None]
    if noted:
        plain["exemplars"] = [[name, labels, one.labels, one.value, one.timestamp] for name, labels, one in noted]
    return plain


def key_of(name: str, labels: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What tells a sample from the others of its family."""
    return name, tuple(sorted(labels.items()))


class Exposition(Collector):
    """The families of all models, of the server, and ``further`` ones."""

    def __init__(
        self,
        version: str,
        ready: bool,
        refused: Mapping[str, int],
        models: Sequence[ModelMetrics],
        further: Sequence[Any],
    ) -> None:
        """``models`` are copies (:meth:`ModelMetrics.copied`); ``refused`` counts error codes."""
        self._version = version
        self._ready = ready
        self._refused = refused
        self._models = models
        self._further = further
        self._exemplars = False

    def text(self, openmetrics: bool = False) -> bytes:
        """The Prometheus text format, or OpenMetrics, which has exemplars. May run on any thread, one at a time."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        self._exemplars = openmetrics
        return _written(registry, openmetrics)

    def plain(self) -> list[dict[str, Any]]:
        """The same families as values that can be written as JSON. May run on any thread.

        Where samples have exemplars these are in ``exemplars``: name, labels, and the exemplar's labels, value and
        time in seconds of the Unix epoch.
        """
        self._exemplars = True
        families = [*self.collect(), *ProcessCollector(registry=None).collect()]
        return [_plain(one) for one in families]

    def describe(self) -> Sequence[Any]:
        """Empty: else the registry would collect everything once more to learn the names."""
        return ()

    def collect(self) -> Iterator[Any]:
        info = GaugeMetricFamily("slipway_build_info", "Always 1; the label is the version", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield GaugeMetricFamily("slipway_ready", "1 while /ping responds 200, else 0", value=float(self._ready))
        refused = CounterMetricFamily(
            "slipway_refused", "Requests refused before they reached a model", labels=["code"]
        )
        for code, count in self._refused.items():
            refused.add_metric([code], count)
        yield refused
        yield from self._requests()
        yield from self._stages()
        yield from self._batches()
        yield from self._queues()
        yield from self._versions()
        yield from self._caches()
        yield from steps.families((one.labels, step) for one in self._models for step in one.steps)
        plain = [(one.labels, one.work) for one in self._models if not one.steps]
        yield from run_counters.families("slipway_", ("model", "version"), plain)
        chosen = [(one.labels, one.choices, one.contention()) for one in self._models if one.choices is not None]
        yield from choices.families(chosen)
        yield from self._scripts()
        on_gpus = [(one.labels, one.device()) for one in self._models if one.device is not None]
        yield from device_metrics.families(on_gpus) if on_gpus else ()
        yield from self._further

    def _requests(self) -> Iterator[Any]:
        family = CounterMetricFamily(
            "slipway_requests",
            "Requests by outcome: ok, or the code of the error",
            labels=["model", "version", "outcome"],
        )
        for one in self._models:
            with entry(one.labels):
                for outcome, count in one.answers.items():
                    family.add_metric([*one.labels, outcome], count)
        yield family

    def _stages(self) -> Iterator[Any]:
        stages = HistogramMetricFamily(
            "slipway_stage_seconds", "Time of successful requests in each stage", labels=["model", "version", "stage"]
        )
        totals = HistogramMetricFamily(
            "slipway_request_seconds",
            "Time of successful requests, from their first byte to the last byte of the response",
            labels=["model", "version"],
        )
        for one in self._models:
            with entry(one.labels):
                for series, (stage, counts, total_s) in enumerate(one.stages.histograms()):
                    buckets: list[Any] = seconds_buckets(counts)
                    if self._exemplars:
                        buckets = one.exemplars.beside(series, buckets)
                    if stage == "total":
                        totals.add_metric(one.labels, buckets, total_s)
                    else:
                        stages.add_metric([*one.labels, stage], buckets, total_s)
        yield stages
        yield totals

    def _batches(self) -> Iterator[Any]:
        sizes = HistogramMetricFamily(
            "slipway_batch_rows", "Rows of each run of the model", labels=["model", "version"]
        )
        for one in self._models:
            with entry(one.labels):
                sizes.add_metric(one.labels, *rows_buckets(batch_times.runs_by_rows(one.batches)))
        yield sizes
        failed = CounterMetricFamily(
            "slipway_failed_slices",
            "Requests, or parts of large requests, that failed in a run of the model",
            labels=["model", "version"],
        )
        for one in self._models:
            with entry(one.labels):
                failed.add_metric(one.labels, one.failed_slices)
        yield failed

    def _queues(self) -> Iterator[Any]:
        rows = GaugeMetricFamily("slipway_queue_rows", "Rows in the queue", labels=["model", "version"])
        backlog = GaugeMetricFamily(
            "slipway_backlog_seconds", "Predicted wait of a request that arrives now", labels=["model", "version"]
        )
        load = GaugeMetricFamily("slipway_load_seconds", "Time of loading and warm-up", labels=["model", "version"])
        cost = GaugeMetricFamily(
            "slipway_cost_seconds",
            "Measured time of a run, by padded length (0: no padding) and batch size",
            labels=["model", "version", "length", "batch_size"],
        )
        for one in self._models:
            with entry(one.labels):
                rows.add_metric(one.labels, one.waiting_rows())
                backlog.add_metric(one.labels, one.backlog_ns() / 1e9)
                load.add_metric(one.labels, one.load_seconds)
                for length, size, cost_ns in one.costs():
                    cost.add_metric([*one.labels, str(length), str(size)], cost_ns / 1e9)
        yield from (rows, backlog, load, cost)

    def _versions(self) -> Iterator[Any]:
        memory = GaugeMetricFamily(
            "slipway_model_memory_bytes", "Resident memory added by loading the model", labels=["model", "version"]
        )
        files = GaugeMetricFamily("slipway_model_file_bytes", "Size of the model's files", labels=["model", "version"])
        shadowed = CounterMetricFamily(
            "slipway_shadow_requests",
            "Requests copied to a shadow, by outcome: same, different, failed, or skipped (the shadow was behind)",
            labels=["model", "version", "outcome"],
        )
        for one in self._models:
            with entry(one.labels):
                memory.add_metric(one.labels, one.memory_bytes)
                files.add_metric(one.labels, one.file_bytes)
                for outcome, count in one.shadowed.items():
                    shadowed.add_metric([*one.labels, outcome], count)
        yield from (memory, files, shadowed)

    def _caches(self) -> Iterator[Any]:
        outcomes = CounterMetricFamily(
            "slipway_cache_requests",
            "Requests by outcome of the response cache: hit, shared with a running request, or miss",
            labels=["model", "version", "outcome"],
        )
        size = GaugeMetricFamily("slipway_cache_bytes", "Bytes of cached outputs", labels=["model", "version"])
        for one in self._models:
            with entry(one.labels):
                size.add_metric(one.labels, one.cache_bytes())
                for outcome, count in one.cache_outcomes.items():
                    outcomes.add_metric([*one.labels, outcome], count)
        yield from (outcomes, size)

    def _scripts(self) -> Iterator[Any]:
        incidents = CounterMetricFamily(
            "slipway_script_incidents",
            "Threads of a script that were given up, and worker processes that were killed, restarted or outgrown",
            labels=["model", "version", "what"],
        )
        memory = GaugeMetricFamily(
            "slipway_script_worker_memory_bytes",
            "Resident memory of a script's worker processes",
            labels=["model", "version"],
        )
        for one in self._models:
            with entry(one.labels):
                for what, count in one.script().items():
                    incidents.add_metric([*one.labels, what], count)
                if one.worker_bytes is not None:
                    memory.add_metric(one.labels, one.worker_bytes())
        yield from (incidents, memory)
