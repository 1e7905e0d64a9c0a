"""Concurrency: how a server takes turns between requests, from the burst probe."""

from __future__ import annotations

from dataclasses import dataclass

from ..load.burst import Burst

SERIAL_FROM = 0.65
"""The last of k answers comes this share of (k - 1) times the latency alone after the first possible instant."""
BATCH_MS = 2.0
JOINED = 0.8
"""A request halfway through another takes less than this share of the latency alone: the two were one batch."""
MIN_TRANSFER_MS = 2.0
MIN_TRANSFER_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Concurrency:
    """``serial``: 1 for one request at a time, 0 for all at once. ``each_ms``: what each further request adds.
    ``at_once``: how many requests are served at a time, of the ``size`` of the largest burst.

    ``in_order``: the answers of a burst come one by one, so that each request has the server for itself. ``timer_ms``:
    time that the server waits for a batch to fill; 0 if it does not. ``transfer_ms``: time that the body needs on its
    way, from the latency of a body with white space, else from TCP's rate; 0 below what can be told from noise.
    ``reading_ms``: of the response.
    """

    serial: float
    each_ms: float
    at_once: float
    size: int
    in_order: bool
    timer_ms: float
    transfer_ms: float
    reading_ms: float


def of(burst: Burst, body_bytes: float) -> Concurrency | None:
    """The turns that the probe shows; None if no burst succeeded."""
    whole = [one for one in burst.together if one.ends_ms]
    if not whole:
        return None
    largest = whole[-1]
    own_ms = max(burst.alone_ms - (burst.floor_ms or 0.0), 0.1)
    # In turns the middle one has more than half of the wait of the last one. A straggler was held up on its way.
    last_ms = min(largest.ends_ms[-1], 2 * largest.ends_ms[largest.size // 2])
    each_ms = max(last_ms - burst.alone_ms, 0.0) / (largest.size - 1)
    serial = min(each_ms / own_ms, 1.5)
    first_ms = largest.ends_ms[0]
    in_order = first_ms <= burst.alone_ms + 0.3 * max(last_ms - burst.alone_ms, 0.0)
    at_once = largest.size / (1 + max(last_ms - burst.alone_ms, 0.0) / own_ms)
    return Concurrency(
        serial,
        each_ms,
        at_once,
        largest.size,
        in_order,
        _timer_ms(burst, own_ms),
        _transfer_ms(burst, body_bytes),
        burst.reading_ms,
    )


def _timer_ms(burst: Burst, own_ms: float) -> float:
    """A second request joins the batch of the first one, and so takes less time than the first one."""
    if burst.staggered_ms is None or burst.stagger_ms is None:
        return 0.0
    if burst.staggered_ms > JOINED * burst.alone_ms or burst.alone_ms - burst.staggered_ms < BATCH_MS:
        return 0.0
    worked_ms = burst.cpu_ms if burst.cpu_ms is not None else 0.0
    return min(max(own_ms - worked_ms, burst.alone_ms - burst.staggered_ms), own_ms)


def _transfer_ms(burst: Burst, body_bytes: float) -> float:
    padded = burst.padded_ms is not None and burst.padding_bytes > 0
    more_ms = (burst.padded_ms or 0.0) - burst.alone_ms if padded else burst.upload_ms or 0.0
    if more_ms < MIN_TRANSFER_MS or more_ms < MIN_TRANSFER_SHARE * burst.alone_ms:
        return 0.0
    return min(more_ms / burst.padding_bytes * body_bytes if padded else more_ms, burst.alone_ms)
