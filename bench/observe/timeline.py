"""The server timeline: time series of the server and its machine during a run, from the looks of the scraper."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from . import model_work
from .model_work import Ends, Labels, ModelWork, Samples
from .scrape import Scraped

NS_PER_S = 1e9
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

ACCEPTED = "slipway_accepted_connections_total"
Span = tuple[float, float]
"""Start and end, in seconds after the start of the load. Each repeat of a run has one measured span."""

SERIES = {
    "server_cpu_cores": "CPU of the server with its child processes, cores",
    "busiest_thread": "CPU of its busiest thread, share of a core",
    "other_cores": "CPU of programs that are neither the server nor bench, cores",
    "strangers": "connections to the server from other programs of this machine",
    "machine_busy": "CPU of the whole machine, share",
    "rss_bytes": "resident memory of the server",
    "own_bytes": "resident memory of its largest process without mapped files",
    "memory_bytes": "memory of its cgroup",
    "throttled": "time in which its CPU quota stopped threads of it, share",
    "throttled_cores": "the same, summed over the cores on which it had work, cores",
    "run_delay": "server threads ready but waiting for a core, cores",
    "loop_delay": "event loop ready but waiting for a core, share",
    "pressure": "time in which some task waited for a core, share",
    "steal": "CPU taken by the hypervisor, share",
    "running": "tasks running or ready on the machine",
    "threads": "threads of the server",
    "major_faults": "pages read from disk, per second",
    "net_in": "bytes that this machine's network took in, per second (the loopback for a server on it)",
    "net_out": "bytes that it sent, per second",
    "ping_ms": "answer to /ping, ms: network and event loop, no model",
    "scrape_ms": "answer to /metrics, ms",
    "queue_rows": "rows that wait in the server's queue",
    "backlog_s": "queueing time that the server predicts, s",
    "gc_share": "time in which its garbage collector ran, share",
    "gc_per_s": "its collections, per second",
    "loop_lag_ms": "how late its event loop served a timer, ms, beyond the first",
    "voluntary": "voluntary context switches of its threads, per second",
    "involuntary": "involuntary context switches of its threads, per second",
}
"""The title of each series by name. Shares are 0 to 1."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Growth of the server's counters from the first to the last scrape of each measured span, summed over spans.

    Requests of other clients are included. ``seconds``: time between those scrapes. ``request_seconds``: latency,
    summed over requests. ``send_seconds``: the part of it in the stage ``send``, which ends after the headers of a
    response are written. ``connections``: accepted ones; None if the server does not count them. ``between_s``: the
    instants of the two scrapes of each span.
    """

    seconds: float
    requests: float
    request_seconds: float
    send_seconds: float
    runs: float
    rows: float
    connections: float | None = None
    between_s: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of 10 ms or more that the server reported.

    ``kind``: ``gc`` (garbage collection) or ``loop`` (the event loop was late). ``end_s``: seconds after the start of
    the load. ``lasted_s``: its length.
    """

    kind: str
    end_s: float
    lasted_s: float


@dataclass(frozen=True, slots=True)
class ServerTimeline:
    """Time series and totals of the server and its machine during a load.

    ``t_s``: instants of the looks, in seconds after the start of the load. ``series``: by the names of ``SERIES``, a
    value or None for each instant. ``costs_ms``: the server's cost table, ms by rows. ``load_s``: time to load and warm
    up the slowest model. ``memory_limit_bytes``: of its control groups. ``totals``: None without metrics. ``notes``:
    which figures are missing, and why. ``works``: for each model, or each step of a pipeline. ``cores``: the cores that
    the server reports it may use. ``quota_cores``: the CPU quota of its control groups; None without one, or if
    unknown. ``pauses``: those that were the latest of their kind at a scrape. ``slows``: the server accepts requests to
    slow down its stages. ``allowed_cores``: cores on which its main process may run; None if unknown.
    """

    pid: int | None
    t_s: tuple[float, ...]
    series: dict[str, tuple[float | None, ...]]
    costs_ms: dict[str, float]
    load_s: float | None
    memory_limit_bytes: float | None
    restarts: int
    totals: Totals | None
    notes: tuple[str, ...]
    works: tuple[ModelWork, ...] = ()
    cores: float | None = None
    quota_cores: float | None = None
    pauses: tuple[Pause, ...] = ()
    slows: bool = False
    allowed_cores: float | None = None

    def values(self, name: str, spans: Sequence[Span]) -> list[float]:
        """The known values of a series in the spans; empty for a missing series."""
        pairs = zip(self.t_s, self.series.get(name, ()), strict=False)
        return [value for t, value in pairs if value is not None and any(low <= t <= high for low, high in spans)]

    def mean(self, name: str, spans: Sequence[Span]) -> float | None:
        """The mean of the known values of a series in the spans; None without any."""
        values = self.values(name, spans)
        return sum(values) / len(values) if values else None


def build(scraped: Scraped, start_ns: int, spans: Sequence[Span]) -> ServerTimeline:
    """The timeline from the looks. ``start_ns``: start of the load by perf_counter. ``spans``: the measured spans."""
    looks = scraped.looks
    samples = [_samples(look.get("metrics")) for look in looks]
    t_s = tuple((look["t_ns"] - start_ns) / NS_PER_S for look in looks)
    series = _rates(looks, scraped.clock_ticks_per_s) | _levels(looks, samples) | _reported_rates(t_s, samples)
    last = next((sample for sample in reversed(samples) if sample), {})
    if not series["server_cpu_cores"] or all(value is None for value in series["server_cpu_cores"]):
        series["server_cpu_cores"] = _rate_of(t_s, [_sum(sample, "process_cpu_seconds_total") for sample in samples])
    limits = [look["memory_limit_bytes"] for look in looks if "memory_limit_bytes" in look]
    starts = {value for sample in samples if (value := _sum(sample, "process_start_time_seconds")) is not None}
    ends = _ends(t_s, samples, spans)
    return ServerTimeline(
        pid=scraped.pid,
        t_s=t_s,
        series={name: values for name, values in series.items() if any(value is not None for value in values)},
        costs_ms={dict(labels)["batch_size"]: value * 1e3 for labels, value in last.get("slipway_cost_seconds", ())},
        load_s=max((value for _, value in last.get("slipway_load_seconds", ())), default=None),
        memory_limit_bytes=limits[-1] if limits else None,
        restarts=max(len(starts) - 1, 0),
        totals=_totals(ends),
        notes=tuple(scraped.notes),
        works=model_work.build(ends),
        cores=_sum(last, "slipway_cores"),
        quota_cores=next((look["quota_cores"] for look in reversed(looks) if "quota_cores" in look), None),
        pauses=_pauses(looks, t_s, samples),
        slows=bool(_sum(last, "slipway_slowdowns")),
        allowed_cores=next((look["allowed_cores"] for look in reversed(looks) if "allowed_cores" in look), None),
    )


def _pauses(looks: Sequence[Mapping[str, Any]], t_s: Sequence[float], samples: Sequence[Samples]) -> tuple[Pause, ...]:
    """The pauses in all scrapes, without duplicates. The clocks of server and scraper must agree on the time of day."""
    pauses: dict[tuple[str, float], Pause] = {}
    for look, look_s, sample in zip(looks, t_s, samples, strict=True):
        lengths = dict(sample.get("slipway_last_pause_seconds", ()))
        for labels, end_s in sample.get("slipway_last_pause_timestamp_seconds", ()):
            kind = dict(labels).get("kind", "")
            if labels in lengths and "wall_s" in look:
                pauses.setdefault((kind, end_s), Pause(kind, look_s - (look["wall_s"] - end_s), lengths[labels]))
    return tuple(pauses.values())


Values = tuple[float | None, ...]


def _samples(text: str | None) -> Samples:
    """The samples of a text exposition by metric name; empty without a text, and for one that cannot be parsed."""
    by_name: dict[str, list[tuple[Labels, float]]] = {}
    try:
        for family in text_string_to_metric_families(text or ""):
            for sample in family.samples:
                by_name.setdefault(sample.name, []).append((tuple(sorted(sample.labels.items())), sample.value))
    except ValueError:
        return {}
    return by_name


def _sum(samples: Samples, name: str, label: tuple[str, str] | None = None) -> float | None:
    """The sum of a metric over models, of the samples with ``label`` if it is given; None without any."""
    values = [value for labels, value in samples.get(name, ()) if label is None or label in labels]
    return sum(values) if values else None


def _levels(looks: Sequence[Mapping[str, Any]], samples: Sequence[Samples]) -> dict[str, Values]:
    """Series whose values come from single looks (gauges)."""

    def scaled(name: str, factor: float) -> Values:
        return tuple(look[name] * factor if name in look else None for look in looks)

    reported = tuple(_sum(sample, "process_resident_memory_bytes") for sample in samples)
    rss = scaled("rss_pages", PAGE_BYTES)
    return {
        "rss_bytes": rss if any(value is not None for value in rss) else reported,
        "own_bytes": scaled("own_pages", PAGE_BYTES),
        "memory_bytes": scaled("memory_bytes", 1),
        "running": scaled("running", 1),
        "threads": scaled("threads", 1),
        "strangers": scaled("strangers", 1),
        "ping_ms": scaled("ping_ns", 1e-6),
        "scrape_ms": scaled("scrape_ns", 1e-6),
        "queue_rows": tuple(_sum(sample, "slipway_queue_rows") for sample in samples),
        "backlog_s": tuple(_sum(sample, "slipway_backlog_seconds") for sample in samples),
    }


def _rates(looks: Sequence[Mapping[str, Any]], ticks_per_s: int) -> dict[str, Values]:
    """Series of rates, from the kernel counters of consecutive looks. A value belongs to the later look."""
    t_s = [look["t_ns"] / NS_PER_S for look in looks]

    def rate(name: str, factor: float) -> Values:
        return _rate_of(t_s, [look.get(name) for look in looks], factor)

    machine = [look.get("machine_ticks") for look in looks]

    def of_machine(name: str) -> Values:
        return _rate_of(machine, [look.get(name) for look in looks])

    idle = of_machine("idle_ticks")
    return {
        "server_cpu_cores": rate("cpu_ticks", 1 / ticks_per_s),
        "machine_busy": tuple(1 - share if share is not None else None for share in idle),
        "throttled": _throttled(looks, t_s),
        "throttled_cores": rate("throttled_ns", 1e-9),
        "run_delay": rate("run_delay_ns", 1e-9),
        "loop_delay": rate("loop_delay_ns", 1e-9),
        "pressure": rate("pressure_us", 1e-6),
        "steal": of_machine("steal_ticks"),
        "major_faults": rate("major_faults", 1),
        "net_in": rate("net_in_bytes", 1),
        "net_out": rate("net_out_bytes", 1),
        "busiest_thread": rate("busiest_ns", 1e-9),
        "other_cores": _other_cores(looks, t_s, ticks_per_s),
    }


def _throttled(looks: Sequence[Mapping[str, Any]], t_s: Sequence[float]) -> Values:
    """The share of the time in which the CPU quota stopped threads of the server, at most.

    The kernel sums the time over cores, which are often stopped at once. So it is limited by the periods with a stop,
    each of the longest possible length. It is counted when a stop ends: what is longer than the time since the look
    before belongs to earlier looks.
    """
    summed = _rate_of(t_s, [look.get("throttled_ns") for look in looks], 1e-9)
    periods = _rate_of(t_s, [look.get("throttled_periods") for look in looks])
    shares: list[float | None] = []
    earlier_s = 0.0
    for at in reversed(range(len(looks))):
        of_all, stops_per_s, stop_ns = summed[at], periods[at], looks[at].get("stop_ns")
        if of_all is None:
            shares.append(None)
            continue
        most = of_all if stops_per_s is None or stop_ns is None else min(of_all, stops_per_s * stop_ns * 1e-9)
        lasted_s = t_s[at] - t_s[at - 1]
        stopped_s = most * lasted_s + earlier_s
        shares.append(min(stopped_s / lasted_s, 1.0))
        earlier_s = max(stopped_s - lasted_s, 0.0)
    return tuple(reversed(shares))


def _other_cores(looks: Sequence[Mapping[str, Any]], t_s: Sequence[float], ticks_per_s: int) -> Values:
    """Cores in use by programs other than the server and bench; None where a counter is unknown."""
    names = ("machine_ticks", "idle_ticks", "steal_ticks", "cpu_ticks", "bench_ticks")
    rates = [_rate_of(t_s, [look.get(name) for look in looks], 1 / ticks_per_s) for name in names]
    return tuple(
        max(total - idle - steal - server - bench, 0.0) if None not in (total, idle, steal, server, bench) else None
        for total, idle, steal, server, bench in zip(*rates, strict=True)
    )


def _reported_rates(t_s: Sequence[float], samples: Sequence[Samples]) -> dict[str, Values]:
    """Series of rates, from the counters in the server's metrics."""

    def values(name: str, kind: str | None = None) -> Values:
        return tuple(_sum(sample, name, ("kind", kind) if kind is not None else None) for sample in samples)

    gc_seconds, timer_count = values("slipway_gc_pause_seconds_sum"), values("slipway_loop_lag_seconds_count")
    switches = {kind: values("slipway_context_switches_total", kind) for kind in ("voluntary", "involuntary")}
    return {
        "gc_share": _rate_of(t_s, gc_seconds),
        "gc_per_s": _rate_of(t_s, values("slipway_gc_pause_seconds_count")),
        "loop_lag_ms": _rate_of(timer_count, values("slipway_loop_lag_seconds_sum"), 1e3),
        **{kind: _rate_of(t_s, counts) for kind, counts in switches.items()},
    }


def _rate_of(
    time_values: Sequence[float | None], values: Sequence[float | None], factor: float = 1.0
) -> tuple[float | None, ...]:
    """The growth of a counter over the growth of ``time_values``, since the last known pair of values.

    None where a value is unknown, where time did not advance, and where the counter shrank.
    """
    rates: list[float | None] = []
    previous: tuple[float, float] | None = None
    for time_value, value in zip(time_values, values, strict=True):
        rate = None
        if time_value is not None and value is not None:
            # A counter that shrank belongs to another process: the server was restarted.
            if previous is not None and time_value > previous[0] and value >= previous[1]:
                rate = (value - previous[1]) * factor / (time_value - previous[0])
            previous = (time_value, value)
        rates.append(rate)
    return tuple(rates)


def _ends(t_s: Sequence[float], samples: Sequence[Samples], spans: Sequence[Span]) -> list[Ends]:
    """The first and the last scrape of each span with at least two, each with its instant."""
    ends = []
    for low, high in spans:
        in_span = [(t, sample) for t, sample in zip(t_s, samples, strict=True) if sample and low <= t <= high]
        if len(in_span) >= 2:
            ends.append((in_span[0], in_span[-1]))
    return ends


def _totals(ends: Sequence[Ends]) -> Totals | None:
    if not ends:
        return None

    def growth(name: str, stage: str | None = None) -> float:
        label = ("stage", stage) if stage is not None else None
        return sum(
            (_sum(last, name, label) or 0.0) - (_sum(first, name, label) or 0.0) for (_, first), (_, last) in ends
        )

    return Totals(
        seconds=sum(last_s - first_s for (first_s, _), (last_s, _) in ends),
        requests=growth("slipway_request_seconds_count"),
        request_seconds=growth("slipway_request_seconds_sum"),
        send_seconds=growth("slipway_stage_seconds_sum", "send"),
        runs=growth("slipway_batch_rows_count"),
        rows=growth("slipway_batch_rows_sum"),
        connections=growth(ACCEPTED) if ACCEPTED in ends[0][0][1] else None,
        between_s=tuple((first_s, last_s) for (first_s, _), (last_s, _) in ends),
    )
