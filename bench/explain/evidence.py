"""Evidence: single findings of one run in plain words, for and against each cause of slowness."""

from __future__ import annotations

from dataclasses import dataclass

from ..observe.link import Link
from ..observe.memory_bandwidth import MemoryBandwidth
from ..observe.timeline import ServerTimeline, Span
from .batches import BatchLaw
from .dispersion import Dispersion
from .stages import Account, Band, rows_around
from .steps import StepLaw, narrowest
from .tail import Attribution
from .transfer import Loopback, Slope

MIN_BODY_BYTES = 1_000
"""Smaller bodies travel in one packet with their head: their time says nothing of a rate."""
CODEC = ("decode", "assemble", "scatter", "encode")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One finding in plain words. ``measure`` and ``value`` are what ``THRESHOLDS`` are held against; ``speaks`` is
    ``for``, ``against``, or None between the two and where there is no threshold."""

    text: str
    measure: str | None = None
    value: float | None = None
    speaks: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Everything that evidence is drawn from. ``stretches``: when was measured. ``capacity_per_s``: rows that one
    instance computes per second at its best, None where unknown. ``cores``: of the server, None if elsewhere.
    ``link`` and ``memory``: how fast those are, None where nobody knows. ``steps``: of a pipeline, instead of ``law``.
    """

    account: Account
    median: Band
    tail: Attribution | None
    law: BatchLaw | None
    host: ServerTimeline | None
    stretches: tuple[Span, ...]
    request_bytes: float
    reply_bytes: float
    rows_per_s: float | None
    capacity_per_s: float | None
    busy_instances: float | None
    arrivals: tuple[Dispersion, ...]
    cores: float | None
    slope: Slope | None = None
    loopback: Loopback | None = None
    link: Link | None = None
    memory: MemoryBandwidth | None = None
    steps: tuple[StepLaw, ...] = ()

    @property
    def seconds(self) -> float:
        """All that was measured."""
        return sum(end_s - start_s for start_s, end_s in self.stretches)

    def mean(self, series: str) -> float | None:
        """The mean of a host series over what was measured."""
        return self.host.mean(series, self.stretches) if self.host is not None else None


def of_shares(median: float | None, tail: float | None, at_most: bool) -> list[Evidence]:
    bound = "at most " if at_most else ""
    found = []
    if median is not None:
        found.append(Evidence(f"{bound}{median:.0%} of a typical request's time", "share_median", median))
    if tail is not None:
        found.append(Evidence(f"{bound}{tail:.0%} of what the p99 takes on top of the median", "share_tail", tail))
    return found


def reading_ms(seen: Seen) -> float:
    rows = rows_around(seen.account, 0.5)
    return float(seen.account.reading_ns[rows].mean()) / 1e6 if len(rows) else 0.0


def of_bandwidth(seen: Seen) -> list[Evidence]:
    rate = len(seen.account.total_ns) / max(seen.seconds, 1e-9)
    megabits = (seen.request_bytes + seen.reply_bytes) * rate * 8 / 1e6
    write, receive = seen.median.terms_ms["write"], seen.median.terms_ms["receive"]
    return [
        Evidence(
            f"a request is {in_bytes(seen.request_bytes)} and its reply {in_bytes(seen.reply_bytes)}: "
            f"{megabits:,.1f} Mbit/s in all, heads not counted",
            "megabits_per_s",
            megabits,
        ),
        Evidence(
            f"a typical request takes {write:.3f} ms to write, {receive:.3f} ms until the server has its last byte, "
            f"and its reply {reading_ms(seen):.3f} ms from the first byte to the last"
        ),
        *_nominal(seen, rate),
        *_link(seen, rate),
        *_loading(seen, "the model's files had to come to the server: "),
    ]


def _nominal(seen: Seen, rate_per_s: float) -> list[Evidence]:
    """What the link carried of what it can: all that this machine's interfaces moved, else what we know of the load."""
    if seen.link is None:
        return []
    moved = {"in": seen.mean("net_in"), "out": seen.mean("net_out")}
    known = {way: value for way, value in moved.items() if value is not None}
    whose = "all programs together"
    if not known:
        known = {"in": seen.reply_bytes * rate_per_s, "out": seen.request_bytes * rate_per_s}
        whose = "this load alone, heads not counted"
    way, most = max(known.items(), key=lambda item: item[1])
    use = most / seen.link.bytes_per_s
    nominal = f"{seen.link.mbit_per_s:,g} Mbit/s ({seen.link.source})"
    return [Evidence(f"the link has {nominal}: {use:.0%} of it were in use, {way}wards, {whose}", "nominal_use", use)]


def _link(seen: Seen, rate_per_s: float) -> list[Evidence]:
    """What the transfer says of the link; what is inferred, and from what, is said."""
    found = []
    on_its_way_s = (seen.median.terms_ms["write"] + seen.median.terms_ms["receive"]) / 1e3
    if seen.request_bytes >= MIN_BODY_BYTES and on_its_way_s > 0:
        effective = seen.request_bytes / on_its_way_s
        use = seen.request_bytes * rate_per_s / effective
        text = (
            f"while it was on its way a body moved at {in_bytes(effective)}/s; the link is at least as fast (inferred)"
        )
        found.append(Evidence(f"{text}, so requests fill at most {use:.0%} of it", "link_use", use))
    if seen.slope is not None and seen.slope.bytes_per_s is not None:
        text = f"over {seen.slope.sizes} sizes of request, each kB took {seen.slope.us_per_kb:.2f} us more"
        rest = f"{seen.slope.base_ms:.3f} ms passed whatever the size"
        found.append(Evidence(f"{text}: a link of {in_bytes(seen.slope.bytes_per_s)}/s (inferred); {rest}"))
    if seen.loopback is not None and seen.loopback.body_bytes >= MIN_BODY_BYTES:
        body, extra_ms = in_bytes(seen.loopback.body_bytes), seen.loopback.extra_us / 1e3
        text = f"without a network (the echo server on this machine) a body of {body} takes {extra_ms:.3f} ms"
        found.append(Evidence(f"{text} more than an empty one: so much is the machine's own"))
    texts = {
        "net_in": "its network interfaces took in {} a second, all programs together",
        "net_out": "its network interfaces sent {} a second, all programs together",
    }
    for name, text in texts.items():
        value = seen.mean(name)
        if value is not None:
            found.append(Evidence(f"this machine: {text.format(in_bytes(value))}", name, value))
    again = seen.mean("retransmits")
    if again is not None:
        found.append(Evidence(f"this machine sent {again:.1f} TCP segments a second again", "retransmits", again))
    return found


def _loading(seen: Seen, because: str) -> list[Evidence]:
    if seen.host is None or seen.host.load_s is None:
        return []
    return [
        Evidence(f"{because}loading and warming up took {seen.host.load_s:.2f} s", "load_seconds", seen.host.load_s)
    ]


def of_model(seen: Seen) -> list[Evidence]:
    found = _loading(seen, "")
    host = seen.host
    rss = seen.mean("rss_bytes")
    if host is not None and rss is not None:
        limit = host.memory_limit_bytes
        of = f", of the {in_bytes(limit)} that its cgroup allows" if limit else ""
        share = rss / limit if limit else None
        found.append(Evidence(f"the server holds {in_bytes(rss)} of memory{of}", "memory_share", share))
    faults = seen.mean("major_faults")
    if faults is not None:
        found.append(Evidence(f"{faults:.1f} pages a second had to come from disk", "major_faults_per_s", faults))
    if seen.law is not None:
        law = seen.law
        found.append(
            Evidence(
                f"a run costs {law.fixed_ms:.3f} ms whatever its size and {law.per_row_ms:.3f} ms per row; reading the "
                f"weights is in the first, which is {law.fixed_share:.0%} of a run of one row",
                "fixed_share",
                law.fixed_share,
            )
        )
    elif seen.steps:
        found += [_step_costs(one) for one in seen.steps if one.fixed_ms is not None]
    else:
        found.append(Evidence("runs of too few sizes to tell the fixed part of a run, which reads the weights"))
    return found


def _step_costs(one: StepLaw) -> Evidence:
    length = f", {one.length} long" if one.length else ""
    return Evidence(
        f"a run of step {one.step} costs {max(one.fixed_ms or 0.0, 0.0):.3f} ms whatever its size and "
        f"{one.per_row_ms:.3f} ms per row{length} (the server's cost table)"
    )


def of_requests(seen: Seen) -> list[Evidence]:
    found = []
    busiest = narrowest(seen.host.works) if seen.host is not None else None
    if busiest is not None and busiest.utilisation is not None:
        share, count = busiest.utilisation, busiest.instances
        text = (
            f"{busiest.name} was the busiest: {busiest.busy:.2f} of {count} instances computed on average, {share:.0%}"
        )
        found.append(Evidence(text, "utilisation", share))
    elif seen.busy_instances is not None:
        found.append(
            Evidence(f"{seen.busy_instances:.2f} instances were computing on average", "busy", seen.busy_instances)
        )
    if seen.rows_per_s is not None and seen.capacity_per_s:
        load = seen.rows_per_s / seen.capacity_per_s
        found.append(
            Evidence(
                f"{seen.rows_per_s:,.0f} rows/s came, and one instance computes {seen.capacity_per_s:,.0f} at its "
                f"best: {load:.0%} of it",
                "load",
                load,
            )
        )
    waiting = seen.mean("queue_rows")
    if waiting is not None:
        found.append(Evidence(f"{waiting:.1f} rows waited when the server was asked", "queue_rows", waiting))
    for one in seen.arrivals:
        kind = "evenly" if one.index < 0.5 else "like independent callers" if one.index < 2 else "in bursts"
        found.append(
            Evidence(
                f"requests came {kind} at {one.window_s * 1e3:g} ms: index of dispersion {one.index:.2f}",
                "dispersion",
                one.index,
            )
        )
    return found


def of_hardware(seen: Seen) -> list[Evidence]:
    found = []
    cpu = seen.mean("server_cpu_cores")
    if cpu is not None:
        of = f" of {seen.cores:g}" if seen.cores else ""
        share = cpu / seen.cores if seen.cores else None
        found.append(Evidence(f"the server used {cpu:.2f}{of} cores", "cpu_share", share))
    texts = {
        "throttled": "its CPU quota held it back {:.1%} of the time",
        "machine_busy": "its machine was {:.0%} busy, all programs together",
        "pressure": "some program waited for a core {:.0%} of the time",
        "steal": "other virtual machines took {:.1%} of the cores",
    }
    for name, text in texts.items():
        value = seen.mean(name)
        if value is not None:
            found.append(Evidence(text.format(value), name, value))
    return [*found, *(Evidence(note) for note in (seen.host.notes if seen.host is not None else ()))]


def in_bytes(count: float) -> str:
    """A size for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1_000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:.3g} GB"
