"""Evidence: what was measured of the network, the model, the queue and the machine, in plain words."""

from __future__ import annotations

from .observations import Observations
from .stages import rows_around
from .steps import StepLaw, busiest

MIN_BODY_BYTES = 1_000
"""A smaller body travels in one packet with its head, so that its time says nothing about a rate."""
CODEC = ("decode", "assemble", "scatter", "encode")
EVEN, INDEPENDENT = 0.5, 2.0
"""Below ``EVEN`` arrivals are even, below ``INDEPENDENT`` like those of independent callers, above it bursts."""


def _reading_ms(observed: Observations) -> float:
    """The mean time from the first to the last byte of the response, around the median, in ms."""
    rows = rows_around(observed.account, 0.5)
    return float(observed.account.reading_ns[rows].mean()) / 1e6 if len(rows) else 0.0


def of_network(observed: Observations) -> list[str]:
    """Body sizes, transfer times, the use of the link, and the load time of the model's files."""
    rate = len(observed.account.total_ns) / max(observed.seconds, 1e-9)
    megabits = (observed.request_bytes + observed.reply_bytes) * rate * 8 / 1e6
    write, receive = observed.median.terms_ms["write"], observed.median.terms_ms["receive"]
    received = f", and {receive:.3f} ms more until the server has its last byte" if observed.account.with_server else ""
    bodies = f"a request body has {in_bytes(observed.request_bytes)}, a response body {in_bytes(observed.reply_bytes)}"
    times = f"a typical request takes {write:.3f} ms to write{received}; its response takes "
    return [
        f"{bodies}: {megabits:,.1f} Mbit/s in all, without heads",
        f"{times}{_reading_ms(observed):.3f} ms from the first byte to the last",
        *_nominal(observed, rate),
        *_effective(observed, rate),
        *_machine(observed),
        *_loading(observed, "the model's files had to reach the server: "),
    ]


def _nominal(observed: Observations, rate_per_s: float) -> list[str]:
    """The use of the link's nominal rate.

    The traffic is that of this machine's interfaces if it is known, else that of this load.
    """
    if observed.link is None:
        return []
    measured = {"in": observed.mean("net_in"), "out": observed.mean("net_out")}
    traffic = {way: value for way, value in measured.items() if value is not None}
    scope = "all programs together"
    if not traffic:
        traffic = {"in": observed.reply_bytes * rate_per_s, "out": observed.request_bytes * rate_per_s}
        scope = "this load alone, without heads"
    way, most = max(traffic.items(), key=lambda item: item[1])
    use = most / observed.link.bytes_per_s
    nominal = f"{observed.link.mbit_per_s:,g} Mbit/s ({observed.link.source})"
    return [f"the link's nominal rate is {nominal}; {use:.0%} was in use, {way}bound, {scope}"]


def _effective(observed: Observations, rate_per_s: float) -> list[str]:
    """The rates that transfer times imply. A figure that is inferred and not measured says so."""
    found = []
    transfer_s = (observed.median.terms_ms["write"] + observed.median.terms_ms["receive"]) / 1e3
    if observed.request_bytes >= MIN_BODY_BYTES and transfer_s > 0:
        effective = observed.request_bytes / transfer_s
        use = observed.request_bytes * rate_per_s / effective
        text = f"a body in transfer moved at {in_bytes(effective)}/s; the link is at least as fast (inferred)"
        found.append(f"{text}, so requests fill at most {use:.0%} of it")
    slope, loopback = observed.slope, observed.loopback
    if slope is not None and slope.bytes_per_s is not None:
        text = f"over {slope.sizes} sizes of request, each kB took {slope.us_per_kb:.2f} us more"
        rest = f"{slope.base_ms:.3f} ms passed at any size"
        found.append(f"{text}: a link of {in_bytes(slope.bytes_per_s)}/s (inferred); {rest}")
    if loopback is not None and loopback.body_bytes >= MIN_BODY_BYTES:
        body, extra_ms = in_bytes(loopback.body_bytes), loopback.extra_us / 1e3
        text = f"without a network (the echo server on this machine) a body of {body} takes {extra_ms:.3f} ms"
        found.append(f"{text} more than an empty one: that part is this machine's own cost")
    return found


def _machine(observed: Observations) -> list[str]:
    """The traffic of this machine's interfaces."""
    found = []
    texts = {
        "net_in": "its network interfaces received {} per second, all programs together",
        "net_out": "its network interfaces sent {} per second, all programs together",
    }
    for name, text in texts.items():
        value = observed.mean(name)
        if value is not None:
            found.append(f"this machine: {text.format(in_bytes(value))}")
    return found


def _loading(observed: Observations, reason: str) -> list[str]:
    load_s = observed.timeline.load_s if observed.timeline is not None else None
    if load_s is None:
        return []
    return [f"{reason}loading and warming up took {load_s:.2f} s"]


def of_model(observed: Observations) -> list[str]:
    """Load time, memory, page faults, and the fixed part of a run."""
    found = _loading(observed, "")
    rss = observed.mean("rss_bytes")
    if observed.timeline is not None and rss is not None:
        limit = observed.timeline.memory_limit_bytes
        of = f", of {in_bytes(limit)} that its control group allows" if limit else ""
        found.append(f"the server holds {in_bytes(rss)} of memory{of}")
    faults = observed.mean("major_faults")
    if faults is not None:
        found.append(f"{faults:.1f} pages per second were read from disk")
    law = observed.batching.law if observed.batching is not None else None
    steps = observed.batching.steps if observed.batching is not None else ()
    if law is not None:
        found.append(
            f"a run costs {law.fixed_ms:.3f} ms at any size and {law.per_row_ms:.3f} ms per row; reading the weights "
            f"is in the first part, which is {law.fixed_share:.0%} of a run of one row"
        )
    elif steps:
        found += [_step_costs(one) for one in steps if one.fixed_ms is not None]
    else:
        found.append("too few batch sizes were run to measure the fixed part of a run, which reads the weights")
    return found


def _step_costs(one: StepLaw) -> str:
    length = f", {one.length} long" if one.length else ""
    return (
        f"a run of step {one.step} costs {max(one.fixed_ms or 0.0, 0.0):.3f} ms at any size and "
        f"{one.per_row_ms:.3f} ms per row{length} (the server's cost table)"
    )


def of_queue(observed: Observations) -> list[str]:
    """Busy instances, load against capacity, waiting rows, and the burstiness of arrivals."""
    found = [*_utilisation(observed), *_load(observed)]
    waiting = observed.mean("queue_rows")
    if waiting is not None:
        found.append(f"{waiting:.1f} rows waited in the queue on average")
    for one in observed.arrivals:
        kind = "evenly" if one.index < EVEN else "like independent callers" if one.index < INDEPENDENT else "in bursts"
        found.append(f"requests arrived {kind} at {one.window_s * 1e3:g} ms: index of dispersion {one.index:.2f}")
    return found


def _utilisation(observed: Observations) -> list[str]:
    work = busiest(observed.timeline.works) if observed.timeline is not None else None
    if work is not None and work.utilisation is not None:
        busy = f"{work.busy:.2f} of {work.instances} instances computed on average, {work.utilisation:.0%}"
        return [f"{work.name} was the busiest: {busy}"]
    if observed.batching is not None:
        return [f"{observed.batching.busy_instances:.2f} instances were computing on average"]
    return []


def _load(observed: Observations) -> list[str]:
    batching = observed.batching
    if batching is None or not batching.capacity_per_s:
        return []
    work = busiest(observed.timeline.works) if observed.timeline is not None else None
    instances = (work.instances if work is not None else None) or 1
    whole = batching.capacity_per_s * instances
    of = "one instance computes" if instances == 1 else f"{instances} instances compute"
    text = f"{batching.rows_per_s:,.0f} rows/s arrived, and {of} at most {whole:,.0f}"
    return [f"{text}: a load of {batching.rows_per_s / whole:.0%}"]


def of_machine(observed: Observations) -> list[str]:
    """CPU of the server and its machine, throttling, and the notes of the timeline."""
    found = []
    cpu = observed.mean("server_cpu_cores")
    if cpu is not None:
        of = f" of {observed.cores:g}" if observed.cores else ""
        found.append(f"the server used {cpu:.2f}{of} cores")
    texts = {
        "throttled": "its CPU quota stopped threads of it for up to {:.1%} of the time",
        "machine_busy": "its machine was {:.0%} busy, all programs together",
        "pressure": "some program waited for a core {:.0%} of the time",
        "steal": "other virtual machines took {:.1%} of the cores",
    }
    for name, text in texts.items():
        value = observed.mean(name)
        if value is not None:
            found.append(text.format(value))
    return [*found, *(observed.timeline.notes if observed.timeline is not None else ())]


def in_bytes(count: float) -> str:
    """A size in bytes, kB, MB or GB, with three significant digits."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1_000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:.3g} GB"
