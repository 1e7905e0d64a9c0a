"""The facts of one run that the rules of the verdict read: figures in plain units, None where one is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..load.burst import Burst
from ..load.measurements import Outcome
from ..load.server_timing import STAGES
from ..observe.timeline import Span, Totals
from . import per_request, sizes, stages, stalls
from .observations import Columns, Observations
from .per_request import PerRequest
from .sizes import Sizes
from .stages import Account, Band
from .stalls import Stalls

COLD_FACTOR, COLD_EXTRA_MS = 5.0, 50.0
MOST_COLD = 0.7
"""Of the requests; the later ones must show that the server is quick."""
MOSTLY_SLOW, MOST_WARMING = 0.6, 0.4
"""A server that warms up in several requests is slow for most of them, and for the smaller part of the load."""
MIN_PAYLOADS, FEW_LATER = 3, 0.2
"""Later requests may be slow for another reason, or because the first one of their payload has no answer yet."""
COLD_SPAN = 1.5
"""Requests can be slow for a cold start if they come within so many times the slowest latency."""
MOST_LATE = 0.4
"""Share of the latency around a percentile that passed before the generator sent."""
MIN_REQUESTS = 10
MOST_SMALL = 30
"""Fewer requests say nothing of a cold start."""
MOST_NOBODYS, SCRAPED_WITHIN_S = 3.0, 0.05
"""Requests that the server counts between two scrapes, and that need no other client: some, and those of a time."""
QUARTILES = (0.25, 0.5, 0.75)
LOOK_S = 0.25
"""From one look at the server to the next, at most."""
MOMENT_NS, MOMENTS = 1_000_000_000, 4
"""Slow requests of fewer moments than that may be one accident, and say nothing of a run."""
OVERTAKES, MEANWHILE = 2, 0.7
APART, SAME_NS, MIN_PAIRS = 0.2, 1_500_000, 10
"""Two requests arrived at different times if one came later by this share of the latency. Their answers came at the
same moment if they are so many ns apart. Fewer pairs say nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the load was, and what became of it.

    ``offered_per_s``: None for a closed loop, of which ``users`` are the callers. ``answered_per_s``: successes.
    ``shed_share``: refused with 429 or 503. ``failed_share``: failures for other reasons than load.
    ``connections``: opened for ``requests`` beyond those that were needed at once. ``run_delay``: the share of the time
    in which the generator waited for a core. ``generator_cpu``: share of one core. ``json_ms``: time that Python's json
    needs here to read the body and to write a response of its size. ``ceiling_per_s``: the most that the generator can
    send here; None if unknown.
    """

    offered_per_s: float | None
    answered_per_s: float
    failed_share: float
    shed_share: float
    requests: int
    connections: int
    run_delay: float | None
    generator_cpu: float
    resent: int | None
    json_ms: float | None
    body_bytes: float
    payloads: int
    ceiling_per_s: float | None = None
    users: int | None = None


@dataclass(frozen=True, slots=True)
class Cold:
    """Slow requests at the start of the load: ``count`` of them, the slowest of ``slowest_ms``, others ``later_ms``.

    ``tail_share``: the share of the requests around p99 that they are. ``measured``: some lie in the measured time.
    ``of_each``: they are the first ones of each payload.
    """

    count: int
    slowest_ms: float
    later_ms: float
    tail_share: float
    measured: bool = True
    of_each: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """Means over the measured time of the server and its machine, in the units of ``timeline.SERIES``."""

    cores: float | None = None
    quota_cores: float | None = None
    server_cores: float | None = None
    busiest_thread: float | None = None
    other_cores: float | None = None
    run_delay: float | None = None
    throttled: float | None = None
    throttled_cores: float | None = None
    steal: float | None = None
    major_faults: float | None = None
    rss_bytes: float | None = None
    own_bytes: float | None = None
    memory_limit_bytes: float | None = None
    memory_bytes_per_s: float | None = None
    strangers: float | None = None
    gc_share: float | None = None
    switches_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """What the server says of its model. ``requests_share``: our requests as a share of all that it answered;
    ``time_share``: of the time that all spent in it.
    ``cpu_share``: CPU time of the threads of runs, over the time of the runs. ``connections_share``: connections that
    the server accepted, by its requests. ``inline``: runs take place on its event loop.

    ``waste``: share of padding in what was computed. ``weights_ms``: time to read the files once from memory.
    """

    utilisation: float | None = None
    instances: int | None = None
    threads: int | None = None
    waste: float | None = None
    weights_ms: float | None = None
    requests_share: float | None = None
    time_share: float | None = None
    cpu_share: float | None = None
    connections_share: float | None = None
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the rules read.

    ``p50_ms``, ``p99_ms``: mean latency around the percentile; ``typical`` and ``slow``: its terms. Without stage times
    of the server (``with_server`` False) only the terms of the client are known. ``slowest_part``: the percentile of
    ``slow``, lower than 99 in a short run. ``growing``: latency of the last third of the run over the first third.
    ``sizes``: what the inputs of the requests around p99 take longer. ``per_request``: of single requests, by the
    server. ``slow_host``: the figures of ``host`` at the times of the requests around p99. ``overtaken``: the share of
    these requests of which ``OVERTAKES`` later ones, or more, had their answers in the first ``MEANWHILE`` of the wait.
    ``together``: of the pairs that arrived at different times and were in the server at once, the share with answers
    at the same moment; 0 for few pairs.
    """

    p50_ms: float
    p99_ms: float
    typical: Mapping[str, float]
    slow: Mapping[str, float]
    with_server: bool
    load: Load
    host: Host = field(default_factory=Host)
    model: Model = field(default_factory=Model)
    burst: Burst | None = None
    stalls: Stalls | None = None
    cold: Cold | None = None
    growing: float = 1.0
    overtaken: float = 0.0
    together: float = 0.0
    sizes: Sizes = field(default_factory=Sizes)
    per_request: PerRequest | None = None
    quick_ms: float = 0.0
    slow_host: Host = field(default_factory=Host)

    @property
    def alone_ms(self) -> float:
        """The latency of a request without another one: of the probe, else of the quickest tenth of the run."""
        return self.burst.alone_ms if self.burst is not None else self.quick_ms


def gather(columns: Columns, window: Columns, observed: Observations, load: Load, burst: Burst | None) -> Facts | None:
    """The facts of a run; None with too few successes. ``columns``: all rows, ``window``: the measured ones."""
    account = observed.account
    if len(account.total_ns) < MIN_REQUESTS:
        return None
    bands = observed.bands
    # Where the generator was late in a few moments alone, the next percentile tells more of the server.
    trusted = {name: one for name, one in bands.items() if not _late_at_once(one, account)}
    typical, slow = stages.typical(account, bands), stages.slow(account, trusted or bands)
    if slow is None or typical is None:
        return None
    tail = _members(slow, account)
    inputs = sizes.of(window, account, tail)
    pauses = observed.timeline.pauses if observed.timeline is not None else ()
    return Facts(
        p50_ms=typical.total_ms,
        p99_ms=slow.total_ms,
        typical=typical.terms_ms,
        slow=slow.terms_ms,
        with_server=account.with_server,
        load=load,
        host=_host(observed, observed.stretches),
        slow_host=_host(observed, _times(account, tail)),
        model=_model(observed, columns, load),
        burst=burst,
        stalls=stalls.find(window, account, tail, inputs.long, pauses),
        cold=_cold(columns, account, tail) or _first_of_each(columns, account, tail),
        growing=_growing(account),
        overtaken=_overtaken(account, tail),
        together=_together(account),
        sizes=inputs,
        per_request=per_request.of(account, stages.rows_around(account, 0.5), tail),
        quick_ms=float(np.quantile(account.total_ns, 0.1)) / 1e6,
    )


def _overtaken(account: Account, tail: NDArray[np.intp]) -> float:
    if not len(tail):
        return 0.0
    # What waits for the same end gets its answer in any order then.
    ends_ns, before_ns = account.due_ns + account.total_ns, account.due_ns + (MEANWHILE * account.total_ns).astype(int)
    later = [np.searchsorted(account.due_ns, [account.due_ns[row] + 1, before_ns[row]]) for row in tail.tolist()]
    pairs = zip(tail.tolist(), later, strict=True)
    return float(np.mean([(ends_ns[begin:end] < before_ns[row]).sum() >= OVERTAKES for row, (begin, end) in pairs]))


def _together(account: Account) -> float:
    ends_ns = account.due_ns + account.total_ns
    order = np.argsort(ends_ns, kind="stable")
    due_ns, total_ns, ends_ns = account.due_ns[order], account.total_ns[order], ends_ns[order]
    apart = np.abs(np.diff(due_ns)) > np.maximum(APART * np.maximum(total_ns[1:], total_ns[:-1]), 2 * SAME_NS)
    pairs = apart & (due_ns[1:] < ends_ns[:-1])
    return float((np.diff(ends_ns)[pairs] <= SAME_NS).mean()) if pairs.sum() >= MIN_PAIRS else 0.0


def _growing(account: Account) -> float:
    """The growth of the quartile that grew least: a backlog delays all requests, while two kinds of requests come in
    other shares by chance."""
    thirds = [one for one in np.array_split(account.total_ns, 3) if len(one)]
    if len(thirds) < 3:
        return 1.0
    quartiles = np.array([np.quantile(one, QUARTILES) for one in thirds]).T
    if not (np.diff(quartiles, axis=1) > 0).all():
        return 1.0
    return float((quartiles[:, 2] / np.maximum(quartiles[:, 0], 1.0)).min())


def _cold(columns: Columns, account: Account, tail: NDArray[np.intp]) -> Cold | None:
    """Slow requests at the start of the load, warm-up included, and none later."""
    ok = columns["outcome"] == Outcome.OK
    latency_ms = ((columns["last_byte_ns"] - columns["due_ns"])[ok]) / 1e6
    due = columns["due_ns"][ok]
    if len(latency_ms) < MOST_SMALL:
        return None
    later_ms = float(np.median(latency_ms[-(len(latency_ms) // 4) :]))
    slow = latency_ms > COLD_FACTOR * later_ms + COLD_EXTRA_MS
    if not slow[0]:
        return None
    # Some of the first ones are quick: another worker of the server, or an input that it knew already.
    count = int(np.flatnonzero(slow)[-1]) + 1
    first = int(np.argmin(slow)) if not slow.all() else len(slow)
    waits = (due[first - 1] - due[0]) / 1e6 <= COLD_SPAN * float(latency_ms[:first].max())
    if not waits and count > MOST_WARMING * len(slow):
        return None  # it stays slow for no reason of its start
    if slow[:count].mean() < MOSTLY_SLOW or count > MOST_WARMING * len(slow):
        count = first
    if count > MOST_COLD * len(slow):
        return None
    end_ns = int(due[count - 1])
    share = float((account.due_ns[tail] <= end_ns).mean()) if len(tail) else 0.0
    measured = len(account.due_ns) > 0 and end_ns >= int(account.due_ns[0])
    return Cold(count, float(latency_ms[:count].max()), later_ms, share, measured)


def _first_of_each(columns: Columns, account: Account, tail: NDArray[np.intp]) -> Cold | None:
    """The first request of each payload is slow, and later ones of the same payload are not: a cache, or a compiler."""
    ok = columns["outcome"] == Outcome.OK
    latency_ms, due_ns = ((columns["last_byte_ns"] - columns["due_ns"])[ok]) / 1e6, columns["due_ns"][ok]
    known, first_rows = np.unique(columns["payload"][ok], return_index=True)
    if len(known) < MIN_PAYLOADS or len(latency_ms) < 2 * len(known):
        return None
    first = np.zeros(len(latency_ms), dtype=bool)
    first[first_rows] = True
    later_ms = float(np.median(latency_ms[~first]))
    slow = latency_ms > COLD_FACTOR * later_ms + COLD_EXTRA_MS
    if slow[first].mean() < MOSTLY_SLOW or slow[~first].sum() > FEW_LATER * slow[first].sum():
        return None
    cold_ns = due_ns[first & slow]
    share = float(np.isin(account.due_ns[tail], cold_ns).mean()) if len(tail) else 0.0
    measured = len(account.due_ns) > 0 and bool((cold_ns >= account.due_ns[0]).any())
    return Cold(len(cold_ns), float(latency_ms[first].max()), later_ms, share, measured, of_each=True)


def _members(band: Band, account: Account) -> NDArray[np.intp]:
    return stages.rows_between(account, band.low, band.high)


def _late_at_once(band: Band, account: Account) -> bool:
    """Whether the generator was late with the requests of a band, and these are of a few moments."""
    late = band.terms_ms["send_lag"] >= MOST_LATE * band.total_ms
    return late and _moments(account, _members(band, account)) < MOMENTS


def _moments(account: Account, rows: NDArray[np.intp]) -> int:
    return len(np.unique(account.due_ns[rows] // MOMENT_NS))


def _times(account: Account, rows: NDArray[np.intp]) -> list[Span]:
    """The times of these requests, each with the look after its end; none where they are all of a few moments, which
    say nothing of a run."""
    begins, ends = account.due_ns[rows], account.due_ns[rows] + account.total_ns[rows]
    if _moments(account, rows) < MOMENTS:
        return []
    return [(begin / 1e9, end / 1e9 + LOOK_S) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def _host(observed: Observations, spans: Sequence[Span]) -> Host:
    timeline = observed.timeline
    if timeline is None:
        return Host()

    def mean(series: str) -> float | None:
        return timeline.mean(series, spans)

    return Host(
        cores=observed.cores,
        quota_cores=timeline.quota_cores,
        server_cores=mean("server_cpu_cores"),
        busiest_thread=mean("busiest_thread"),
        other_cores=mean("other_cores"),
        run_delay=mean("run_delay"),
        throttled=mean("throttled"),
        throttled_cores=mean("throttled_cores"),
        steal=mean("steal"),
        major_faults=mean("major_faults"),
        rss_bytes=mean("rss_bytes"),
        own_bytes=mean("own_bytes"),
        memory_limit_bytes=timeline.memory_limit_bytes,
        memory_bytes_per_s=observed.memory.bytes_per_s if observed.memory is not None else None,
        strangers=mean("strangers"),
        gc_share=mean("gc_share"),
        switches_per_s=mean("voluntary"),
    )


def _ours(totals: Totals | None, columns: Columns, load: Load) -> tuple[float | None, float | None]:
    """Our shares of the requests that the server answered between its first scrape and its last, and of their time."""
    if totals is None or totals.requests <= 0 or not totals.between_s:
        return None, None
    ended_s, stages_ns = columns["last_byte_ns"] / 1e9, sum(np.maximum(columns[f"{one}_ns"], 0) for one in STAGES)
    inside = np.zeros(len(ended_s), dtype=bool)
    for begin_s, end_s in totals.between_s:
        inside |= (ended_s > begin_s) & (ended_s <= end_s)
    inside &= columns["status"] > 0
    others = totals.requests - float(inside.sum())
    # Some end between the scrape and the moment at which bench reads their answer.
    if others <= MOST_NOBODYS + SCRAPED_WITHIN_S * load.answered_per_s:
        return 1.0, 1.0
    ours_s = float(np.sum(stages_ns * inside)) / 1e9
    in_time = ours_s / totals.request_seconds if ours_s > 0 and totals.request_seconds > 0 else None
    return 1 - others / totals.requests, in_time if in_time is None else min(in_time, 1.0)


def _model(observed: Observations, columns: Columns, load: Load) -> Model:
    timeline = observed.timeline
    if timeline is None or not timeline.works:
        return Model()
    main = max(timeline.works, key=lambda one: (one.busy or 0.0, one.runs))
    totals = timeline.totals
    requests_share, time_share = _ours(totals, columns, load)
    bandwidth = observed.memory.bytes_per_s if observed.memory is not None else None
    return Model(
        utilisation=main.utilisation,
        instances=main.instances,
        threads=main.threads,
        waste=main.waste,
        weights_ms=main.file_bytes / bandwidth * 1e3 if main.file_bytes and bandwidth else None,
        requests_share=requests_share,
        time_share=time_share,
        cpu_share=main.cpu_share,
        inline=main.choices is not None and main.choices.inline,
        connections_share=totals.connections / totals.requests
        if totals is not None and totals.connections is not None and totals.requests > 0
        else None,
    )
