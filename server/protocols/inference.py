"""The one way from a body to an answer, under every protocol: decode, schedule, encode, responder, account."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from time import perf_counter_ns

from ..codecs import Codec, Encoded
from ..errors import ClientGone, MalformedInput, SlipwayError, UnsupportedMedia
from ..models import ServedModel
from ..request import NEVER, ORDINARY, PATIENCE_NS, Head, Headers, InferRequest, Journey, Payload
from . import Responder
from .beside import LARGE_BYTES, beside
from .failure import send_failure

log = logging.getLogger("slipway.inference")

NOTHING = Payload((), 1)
NO_PARAMETERS: Mapping[str, str] = {}
TIMING = b"x-slipway-timing"
CUSTOM_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
TIMING_WORD = b"slipway-timing"
MOST_ATTRIBUTES_BYTES = 1_024
ECHO_WORD = b"slipway-echo"
SESSION_ID = b"x-amzn-sagemaker-session-id"
DEADLINE = b"x-request-deadline-ms"
PRIORITY = b"x-request-priority"
CACHE = b"x-slipway-cache"
DEADLINE_NAME = "the header X-Request-Deadline-Ms"
OWN_DEADLINE = b"timeout"
"""A body that has this word may set a deadline of its own."""
LEAST_URGENT = 8
SPECIAL = frozenset((TIMING, CUSTOM_ATTRIBUTES, DEADLINE, PRIORITY, SESSION_ID))
HEADER_STAGES = ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode")
"""``send`` ends after the header has left; it is in the histograms only."""


class Exchange:
    """What has to be remembered between a request and its answer."""

    __slots__ = ("carrier", "echo", "head", "model", "payload", "responder", "writer")

    def __init__(
        self, model: ServedModel, head: Head, responder: Responder, payload: Payload, writer: Codec | None = None
    ) -> None:
        self.model = model
        self.head = head
        self.responder = responder
        self.payload = payload
        self.writer = writer
        self.carrier = b""  # the header that is to bring stage times, or what the caller sent
        self.echo = b""  # the custom attributes that the caller wants back


def infer(
    model: ServedModel,
    head: Head,
    body: bytes,
    responder: Responder,
    reader: Codec,
    writer: Codec,
    parameters: Mapping[str, str] = NO_PARAMETERS,
) -> InferRequest | None:
    """Answer an inference request, now when it is refused, later when it is admitted."""
    if model.scheduler.refusing and _foreseen(model, head, body, responder):
        return None
    if len(body) > LARGE_BYTES:
        exchange = Exchange(model, head, responder, NOTHING, writer)
        request = InferRequest((), 1, _finish, exchange)
        beside(partial(reader.decode, body, head, parameters, model.spec), partial(_decoded, request))
        return request
    try:
        payload = reader.decode(body, head, parameters, model.spec)
        exchange = Exchange(model, head, responder, payload, writer)
        request = InferRequest(payload.arrays, payload.rows, _finish, exchange)
        _enter(request, exchange)
    except SlipwayError as error:
        model.metrics.answers[error.code] += 1
        send_failure(error, head, responder)
        return None
    if model.watch is not None:
        model.watch(request)
    return request


def _enter(request: InferRequest, exchange: Exchange) -> None:
    """From here on a decoded request is the scheduler's, or the cache's. Raises SlipwayError when it is refused."""
    model = exchange.model
    obey(exchange, request)
    request.decoded_ns = perf_counter_ns()
    if model.cache is None:
        model.submit(request)
    else:
        model.cache.submit(request, model.submit)


def _foreseen(model: ServedModel, head: Head, body: bytes, responder: Responder) -> bool:
    """Whether a request has been refused for load before anything is spent on its body.

    Not where the body may hold a deadline of its own, or its answer may be kept.
    """
    if model.cache is not None or OWN_DEADLINE in body:
        return False
    try:
        model.scheduler.foresee(_deadline_ns(model, head))
    except SlipwayError as error:
        model.metrics.answers[error.code] += 1
        send_failure(error, head, responder)
        return True
    return False


def _decoded(request: InferRequest, end: Payload | BaseException) -> None:
    """Go on with a large request whose body has been read, or has been found wrong."""
    exchange: Exchange = request.context
    model = exchange.model
    try:
        if isinstance(end, BaseException):
            raise end
        if request.abandoned:
            raise ClientGone("the client closed the connection while its body was read")
        exchange.payload = end
        request.arrays, request.rows = end.arrays, end.rows
        _enter(request, exchange)
    except SlipwayError as error:
        request.error = error
        fail(request, exchange)
    except Exception as error:
        log.exception("a body for model %s could not be read", model.name)
        request.error = SlipwayError("the body could not be read; the server's log has the details")
        request.error.__cause__ = error
        fail(request, exchange)
    else:
        if model.watch is not None:
            model.watch(request)


def require_plain(encoding: bytes | None) -> None:
    """Raises UnsupportedMedia for a compressed body: no codec would understand it."""
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMedia("Content-Encoding is not supported: send the body as it is")


def _finish(request: InferRequest) -> None:
    """Called by the scheduler, once: encode the outputs and send them, or the error."""
    exchange: Exchange = request.context
    model = exchange.model
    outputs = request.outputs
    if outputs is None or request.abandoned:
        fail(request, exchange)
        return
    assert exchange.writer is not None
    if outputs[0].nbytes > LARGE_BYTES:
        how = outputs, exchange.payload, model.spec, model.name, model.version
        beside(partial(exchange.writer.encode, *how), partial(_encoded, request))
        return
    try:
        encoded = exchange.writer.encode(outputs, exchange.payload, model.spec, model.name, model.version)
    except Exception as error:  # noqa: BLE001 - told to the client, and logged, there
        _encoded(request, error)
        return
    _send(request, exchange, *encoded)


def _encoded(request: InferRequest, end: Encoded | BaseException) -> None:
    """Send an answer whose body was written elsewhere, or could not be written."""
    exchange: Exchange = request.context
    if not isinstance(end, BaseException) and not request.abandoned:
        _send(request, exchange, *end)
        return
    if isinstance(end, SlipwayError):
        request.error = end
    elif isinstance(end, BaseException):
        log.error("an answer of model %s could not be encoded", exchange.model.name, exc_info=end)
        request.error = SlipwayError("the answer could not be encoded; the server's log has the details")
        request.error.__cause__ = end
    fail(request, exchange)


def _send(request: InferRequest, exchange: Exchange, body: bytes, content_type: bytes, headers: Headers) -> None:
    model, head = exchange.model, exchange.head
    encoded_ns = perf_counter_ns()
    if exchange.carrier:
        headers = [*headers, *carried(request, head, encoded_ns, exchange)]
    if request.cached:
        headers = [*headers, (CACHE, request.cached.encode())]
    exchange.responder.send(200, content_type, body, headers)
    metrics = model.metrics
    metrics.answers["ok"] += 1
    metrics.stages.record(request, head.begun_ns, head.received_ns, encoded_ns, perf_counter_ns())


def fail(request: InferRequest, exchange: Exchange) -> None:
    error = request.error or ClientGone("the client closed the connection before its answer was ready")
    exchange.model.metrics.answers[error.code] += 1
    if not isinstance(error, ClientGone):
        send_failure(error, exchange.head, exchange.responder)


def obey(exchange: Exchange, request: InferRequest) -> None:
    """Take over what the caller asks for beside the answer: a carrier of stage times, a deadline, a priority.

    Raises MalformedInput for a wish that makes no sense.
    """
    allowed_ns = exchange.model.deadline_ns
    for name, value in exchange.head.headers:
        if name not in SPECIAL:
            continue
        if name == TIMING and value not in (b"", b"0"):
            exchange.carrier = TIMING
        elif name == CUSTOM_ATTRIBUTES:
            _heed(exchange, value)
        elif name == SESSION_ID:
            raise MalformedInput("stateful sessions are not enabled: start the server with --sessions")
        elif name == DEADLINE:
            allowed_ns = _positive(value.decode("latin-1"), DEADLINE_NAME, 1e6)
        elif name == PRIORITY:
            request.patience_ns = _patience_ns(value.decode("latin-1"))
    parameters = exchange.payload.parameters
    if parameters:
        if "timeout" in parameters:
            allowed_ns = _positive(parameters["timeout"], "the parameter timeout, in microseconds,", 1e3)
        if "priority" in parameters:
            request.patience_ns = _patience_ns(parameters["priority"])
    if allowed_ns:
        request.deadline_ns = exchange.head.begun_ns + allowed_ns


def _heed(exchange: Exchange, value: bytes) -> None:
    """What the custom attributes ask for, by words among whatever else they hold: stage times, and to be sent back.

    Raises MalformedInput beyond the platform's limits, which a reply has to keep too.
    """
    if len(value) > MOST_ATTRIBUTES_BYTES or not all(0x20 <= byte <= 0x7E for byte in value):
        raise MalformedInput(f"custom attributes must be at most {MOST_ATTRIBUTES_BYTES} visible ASCII characters")
    if TIMING_WORD in value:
        exchange.carrier = exchange.carrier or CUSTOM_ATTRIBUTES
    if ECHO_WORD in value:
        exchange.echo = value
        exchange.carrier = exchange.carrier or ECHO_WORD


def carried(request: InferRequest, head: Head, encoded_ns: int, exchange: Exchange) -> Headers:
    """The headers with stage times, and with the caller's own attributes; what is too long for both is the caller's."""
    if exchange.carrier == ECHO_WORD:
        return [(CUSTOM_ATTRIBUTES, exchange.echo)]
    name, value = timing(request, head, encoded_ns, exchange.carrier)
    if not exchange.echo:
        return [(name, value)]
    if name != CUSTOM_ATTRIBUTES:
        return [(name, value), (CUSTOM_ATTRIBUTES, exchange.echo)]
    both = exchange.echo + b"," + value
    return [(name, both if len(both) <= MOST_ATTRIBUTES_BYTES else exchange.echo)]


def _deadline_ns(model: ServedModel, head: Head) -> int:
    """The deadline that headers and settings set. Raises MalformedInput as :func:`obey` does."""
    given = head.get(DEADLINE)
    allowed_ns = model.deadline_ns
    if given is not None:
        allowed_ns = _positive(given.decode("latin-1"), DEADLINE_NAME, 1e6)
    return head.begun_ns + allowed_ns if allowed_ns else NEVER


def _patience_ns(value: object) -> int:
    """Priorities are the Open Inference Protocol's: 1 is the most urgent, 0 means the ordinary one."""
    text = str(value)
    if not text.isdecimal() or int(text) > LEAST_URGENT:
        raise MalformedInput(f"a priority must be a whole number from 0 to {LEAST_URGENT}, got {text[:40]!r}")
    return (int(text) or ORDINARY) * PATIENCE_NS


def _positive(value: object, what: str, unit_ns: float) -> int:
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0.0 < number < 1e12:
        raise MalformedInput(f"{what} must be a positive number, got {str(value)[:40]!r}")
    return max(int(number * unit_ns), 1)


def timing(request: InferRequest, head: Head, encoded_ns: int, carrier: bytes) -> tuple[bytes, bytes]:
    """The stage times as ``Server-Timing`` (milliseconds), or in SageMaker's custom attributes (microseconds)."""
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
    steps = () if request.journey is None else _of_steps(request.journey)
    if carrier == CUSTOM_ATTRIBUTES:
        text = ",".join(f"{stage}={ns // 1_000}" for stage, ns in pairs) + f",batch={request.run_rows}"
        for name, ns in steps:
            entry = f",{name}={ns // 1_000}"
            if len(text) + len(entry) > MOST_ATTRIBUTES_BYTES:
                break
            text += entry
        return CUSTOM_ATTRIBUTES, text.encode()
    text = ", ".join(f"{stage};dur={ns / 1e6:.4f}" for stage, ns in (*pairs, *steps))
    return b"server-timing", f'{text}, batch;desc="{request.run_rows}"'.encode()


def _of_steps(journey: Journey) -> list[tuple[str, int]]:
    """What each step of a pipeline took, by ``STEP.STAGE``; what the attributes have no room for are the last steps."""
    return [
        (f"{one.name}.{stage}", ns)
        for one in journey.times
        for stage, ns in (("queue", one.queue_ns), ("compute", one.compute_ns))
    ]
