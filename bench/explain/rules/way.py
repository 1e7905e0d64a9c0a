"""Rules on bodies and their way: network, reading and writing."""

from __future__ import annotations

from ..evidence import CODEC
from ..findings import MIN_MS, OVERTAKEN, Earlier, Finding, View, busy_share

LOOP_MS = 5.0
ONE_CORE = 1.1
"""Use of cores by a request alone, up to which it computes on one of them at a time."""
LEAST_MS = 2.0
"""Bodies that are under way for less are not the reason of a latency."""
MOSTLY = 0.5
LOST = 0.01
"""Segments that were sent again, for each request: fewer are not at p99."""
IDLE = 0.4
"""Of the cores, or of the busiest thread: a server that is busier may leave requests in their sockets."""
STOPPED = 3.0
CERTAIN = 0.8
"""Of what a codec may cost at most: the rest may be the server's copying of it."""
OF_CODEC = 0.5
"""Of the time of the codec, that the server must have used a core: else it waited there."""


def network_latency(view: View, earlier: Earlier) -> Finding | None:
    """A long way for every request, or some that are held up on it."""
    facts, burst = view.facts, view.facts.burst
    way_ms = (burst.floor_ms or 0.0) if burst is not None else 0.0
    if view.rules(earlier, "connections"):
        way_ms = 0.0  # an answer that needs no model waits for its new connection, too
    if view.own_ms is not None and view.worked is not None and view.worked <= ONE_CORE:
        # The way of another answer may have a wait of its own, as for a delayed acknowledgement.
        way_ms = min(way_ms, max(facts.alone_ms - view.own_ms, 0.0))
    # What keeps the loop of the server busy also delays an answer that needs no model.
    quiet = burst is None or (burst.quiet_cores or 0.0) <= 0.5
    if way_ms < LOOP_MS or way_ms < 0.3 * facts.alone_ms or not quiet:
        return _outside(view, earlier) or _held_up(view, earlier)
    text = f"an answer that needs no model takes {way_ms:,.1f} ms, of {facts.alone_ms:,.1f} ms for a request alone"
    return Finding("network_latency", 0.8 * way_ms, way_ms, (text,))


def _outside(view: View, earlier: Earlier) -> Finding | None:
    """What a typical request spends outside of the server by its own clock, while client and server have time: on the
    way, or in a gateway that holds some kinds of requests alone."""
    facts = view.facts
    way_ms = max(facts.typical["residual"] - _reading_ms(view), 0.0)
    if not facts.with_server or way_ms < LOOP_MS or way_ms < MOSTLY * facts.p50_ms or busy_share(facts) > IDLE:
        return None
    delays = ("connections", "generator", "cpu_quota", "threads", "neighbour", "stall")
    if any(view.rules(earlier, name) for name in delays):
        return None
    text = f"{way_ms:,.1f} ms of a typical {facts.p50_ms:,.1f} ms passed outside of the server, which had time for it"
    return Finding("network_latency", 0.8 * way_ms, way_ms, (text,), way_ms)


def _held_up(view: View, earlier: Earlier) -> Finding | None:
    """Requests that take long on their way, while the server answers later ones: what delays all of it delays those,
    too. Its stage times tell the way, else segments that TCP lost, or answers without a model."""
    facts = view.facts
    if facts.overtaken < OVERTAKEN or view.rules(earlier, "connections"):
        return None
    lost = (facts.load.resent or 0) / max(facts.load.requests, 1)
    evidence = [f"later requests had their answers before {facts.overtaken:.0%} of the slow ones"]
    if facts.with_server:
        gap_ms = sum(facts.slow[name] - facts.typical[name] for name in ("write", "receive", "residual"))
    else:
        gap_ms = facts.p99_ms - facts.p50_ms if lost >= LOST else min(_probed_ms(view), facts.p99_ms - facts.p50_ms)
    way_ms = view.left(earlier, gap_ms, "cpu_quota", "threads", "neighbour", "generator", "cold_start", "stall")
    if way_ms < LOOP_MS or way_ms < MOSTLY * facts.p99_ms:
        return None
    if facts.with_server:
        evidence.insert(0, f"{way_ms:,.1f} ms of a slow request passed on the way to the server and back")
    elif lost < LOST:
        evidence.insert(0, f"an answer that needs no model was held up for {way_ms:,.1f} ms, as slow requests are")
    if lost >= LOST:
        evidence.append(f"TCP sent {facts.load.resent:,} segments again, for {facts.load.requests:,} requests")
    return Finding("network_latency", 0.6 * way_ms, way_ms, tuple(evidence))


def _probed_ms(view: View) -> float:
    """What held up one of the requests without a model; 0 if unknown."""
    burst = view.facts.burst
    if burst is None or burst.floor_ms is None or burst.floor_slow_ms is None:
        return 0.0
    return burst.floor_slow_ms - burst.floor_ms


def bandwidth(view: View, _earlier: Earlier) -> Finding | None:
    facts = view.facts
    terms = facts.typical
    measured_ms = terms["write"] + (terms["receive"] if facts.with_server else 0.0)
    probed_ms, reading_ms = view.concurrency.transfer_ms if view.concurrency is not None else 0.0, _reading_ms(view)
    # The server's own clock says when it had the body; the probe, which other programs disturb, only confirms that.
    sending_ms = measured_ms if facts.with_server else max(measured_ms, probed_ms)
    whole_ms = sending_ms + reading_ms
    if whole_ms < 0.3 * facts.alone_ms or whole_ms < LEAST_MS:
        return None
    if facts.burst is not None and facts.burst.padded_ms is not None and not probed_ms and not reading_ms:
        return None  # twice the bytes take no longer: what lasts is the work of a busy server
    evidence = []
    if reading_ms and facts.burst is not None:
        size = f"{facts.burst.reply_bytes / 1e3:,.1f} kB"
        text = f"a response of {size} takes {reading_ms:,.1f} ms from its first byte to its last"
        evidence.append(f"{text}, of {facts.alone_ms:,.1f} ms for a request alone")
    if sending_ms >= MIN_MS:
        of = f"a typical {facts.p50_ms:,.1f} ms" if sending_ms == measured_ms else f"{facts.alone_ms:,.1f} ms alone"
        text = (
            f"the body of a request, {facts.load.body_bytes / 1e3:,.1f} kB, is {sending_ms:,.1f} ms under way, of {of}"
        )
        evidence.insert(0 if sending_ms > reading_ms else 1, text)
    if probed_ms and facts.burst is not None:
        padded = "the same body with white space behind it takes longer in proportion to its bytes"
        evidence.append(
            padded if facts.burst.padded_ms is not None else "TCP needs that long to deliver it, by its own rate"
        )
    high_ms = max(whole_ms, facts.p99_ms - facts.alone_ms + whole_ms if whole_ms > 0.6 * facts.alone_ms else whole_ms)
    return Finding("bandwidth", 0.7 * whole_ms, high_ms, tuple(evidence))


def _reading_ms(view: View) -> float:
    """From the first byte of a response to its last, alone; 0 where that is too short to tell."""
    reading_ms = view.concurrency.reading_ms if view.concurrency is not None else 0.0
    return reading_ms if reading_ms >= LEAST_MS else 0.0


def codec(view: View, earlier: Earlier) -> Finding | None:
    facts = view.facts
    if facts.with_server:
        worked_ms = sum(facts.typical[name] for name in CODEC)
        slow_ms = sum(facts.slow[name] for name in CODEC)
        if worked_ms < MIN_MS:
            return None
        if worked_ms < 0.3 * facts.p50_ms and (slow_ms < 0.3 * facts.p99_ms or worked_ms < 0.15 * facts.p50_ms):
            return None  # what takes long in the tail alone is a wait within the codec, and not its work
        if view.own_ms is not None and view.own_ms < OF_CODEC * min(worked_ms, facts.alone_ms):
            return None  # the server used no core for so long
        text = f"decoding and encoding take {worked_ms:,.2f} ms of a typical {facts.p50_ms:,.2f} ms"
        # Beyond a multiple of the usual time they did not work, but were stopped.
        high_ms = max(worked_ms, min(slow_ms, STOPPED * worked_ms))
        return Finding("codec", 0.6 * worked_ms, high_ms, (text,), worked_ms)
    json_ms = facts.load.json_ms
    if json_ms is None or json_ms < 0.15 * facts.alone_ms or (view.worked is not None and view.worked < 0.3):
        return None
    text = (
        f"Python's json alone needs {json_ms:,.1f} ms here to read this body and to write such a response; a request "
        f"alone takes {facts.alone_ms:,.1f} ms"
    )
    high_ms = min(4 * json_ms, view.left(earlier, facts.alone_ms, "bandwidth", "network_latency"))
    return Finding("codec", min(json_ms, CERTAIN * high_ms), high_ms, (text,))
