"""Response headers on request: stage times (``Server-Timing`` or custom attributes) and echoed custom attributes."""

from __future__ import annotations

from ..request import Head, Headers, InferRequest, Journey
from .exchange import Exchange
from .request_options import CUSTOM_ATTRIBUTES, MAX_ATTRIBUTES_BYTES

HEADER_STAGES = ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode")
"""``send`` ends after the header has been sent; only the histograms show it."""


def requested_headers(request: InferRequest, head: Head, encoded_ns: int, exchange: Exchange) -> Headers:
    """The headers that the request asked for. Custom attributes too long for echo and stage times hold the echo."""
    if not exchange.timing_header:
        return [(CUSTOM_ATTRIBUTES, exchange.echo)] if exchange.echo else []
    name, value = stage_times(request, head, encoded_ns, exchange.timing_header)
    if not exchange.echo:
        return [(name, value)]
    if name != CUSTOM_ATTRIBUTES:
        return [(name, value), (CUSTOM_ATTRIBUTES, exchange.echo)]
    both = exchange.echo + b"," + value
    return [(name, both if len(both) <= MAX_ATTRIBUTES_BYTES else exchange.echo)]


def stage_times(request: InferRequest, head: Head, encoded_ns: int, timing_header: bytes) -> tuple[bytes, bytes]:
    """The stage times as ``Server-Timing`` (milliseconds) or as SageMaker's custom attributes (microseconds)."""
    durations_ns = (
        head.received_ns - head.begun_ns,
        request.decoded_ns - head.received_ns,
        request.picked_ns - request.decoded_ns - request.held_ns,
        request.held_ns,
        request.assembled_ns - request.picked_ns,
        request.computed_ns - request.assembled_ns,
        request.scattered_ns - request.computed_ns,
        encoded_ns - request.scattered_ns,
    )
    pairs = zip(HEADER_STAGES, durations_ns, strict=True)
    about = _of_request(request)
    steps = () if request.journey is None else _step_times(request.journey)
    if timing_header == CUSTOM_ATTRIBUTES:
        text = ",".join(f"{stage}={ns // 1_000}" for stage, ns in pairs)
        text += "".join([f",{name}={value}" for name, value in about]) + f",batch={request.run_rows}"
        for name, ns in steps:
            entry = f",{name}={ns // 1_000}"
            if len(text) + len(entry) > MAX_ATTRIBUTES_BYTES:
                break
            text += entry
        return CUSTOM_ATTRIBUTES, text.encode()
    text = ", ".join(f"{stage};dur={ns / 1e6:.4f}" for stage, ns in (*pairs, *steps))
    told = "".join([f";{name}={value}" for name, value in about])
    return b"server-timing", f'{text}, request{told}, batch;desc="{request.run_rows}"'.encode()


def _of_request(request: InferRequest) -> list[tuple[str, int | str]]:
    """What explains the times of a request: its ``rows``, the rows ``ahead`` of it when it joined the queue, the mean
    ``length`` of its rows and the length to which they were ``padded``, and how the ``cache`` answered it.

    A pipeline has a queue and lengths for each step, and tells the rows alone.
    """
    about: list[tuple[str, int | str]] = [("rows", request.rows)]
    if request.cached:
        about.append(("cache", request.cached))
    elif request.ahead_rows >= 0 and request.journey is None:
        about.append(("ahead", request.ahead_rows))
        if request.run_length:
            own = request.positions(0, request.rows) // request.rows
            about += (("length", own), ("padded", request.run_length))
    return about


def _step_times(journey: Journey) -> list[tuple[str, int]]:
    """(``STEP.STAGE``, nanoseconds) for queue and compute of each step of a pipeline, in order."""
    return [
        (f"{one.name}.{stage}", ns)
        for one in journey.times
        for stage, ns in (("queue", one.queue_ns), ("compute", one.compute_ns))
    ]
