"""The path of an inference request in every protocol: decode, schedule, encode, send, count."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter_ns

from ..cache import digest
from ..codecs import Codec, Encoded, Writer
from ..errors import BodyTooLarge, ClientGone, MalformedInput, SlipwayError, release
from ..models import ServedModel
from ..ragged import held_bytes, size_of
from ..request import Head, Headers, InferRequest, Payload
from ..tensors import Array
from . import Responder
from .exchange import Exchange
from .failure import send_failure, status_of
from .offload import LARGE_BYTES, Call, Place, elsewhere, on_thread, place_of
from .request_options import BODY_DEADLINE, apply_options, header_deadline_ns
from .response_encoding import SMALLEST_BYTES, compressed, encoding_for
from .response_headers import requested_headers

log = logging.getLogger("slipway.inference")

NO_PAYLOAD = Payload((), 1)
NO_PARAMETERS: Mapping[str, str] = {}
CACHE = b"x-slipway-cache"

Send = Callable[[InferRequest, Exchange, bytes, bytes, Headers], None]
"""Sends a body with its content type and headers."""


def infer(
    model: ServedModel,
    head: Head,
    body: bytes,
    responder: Responder,
    reader: Codec,
    writer: Codec,
    parameters: Mapping[str, str] = NO_PARAMETERS,
) -> InferRequest | None:
    """Decode and submit a request; a refusal is sent at once. Returns the request, None if it was refused."""
    if model.scheduler.refusing and refused_early(model, head, body, responder):
        return None
    size_bytes = reader.expanded_bytes(body, model.spec)
    if size_bytes > LARGE_BYTES:
        place = place_of(reader, size_bytes, model.spec.inputs)
        if place is not Place.LOOP:
            request = InferRequest((), 1, finish)
            exchange = Exchange(model, head, responder, NO_PAYLOAD, writer)
            if model.capture is not None and model.capture.wants():
                exchange.captured = body
            infer_apart(request, exchange, place, lambda call: call(reader.decode, body, head, parameters, model.spec))
            return request
    try:
        payload = reader.decode(body, head, parameters, model.spec)
        exchange = Exchange(model, head, responder, payload, writer)
        if model.capture is not None and model.capture.wants():
            exchange.captured = body
        request = InferRequest(payload.arrays, payload.rows, finish, exchange)
        _submit(request, exchange)
    except SlipwayError as error:
        refuse(model, error, head, responder)
        return None
    if model.watch is not None:
        watch(model, request)
    return request


def refuse(model: ServedModel, error: SlipwayError, head: Head, responder: Responder) -> None:
    """Count and send the error of a request that was not admitted; nothing is sent to a client that has left."""
    model.metrics.fail(error.code, head.received_ns)
    if not isinstance(error, ClientGone):
        send_failure(error, head, responder)
    if model.trace is not None:
        model.trace.record(model.metrics, head, None, error.code, status_of(error), 0, perf_counter_ns())


def infer_apart(request: InferRequest, exchange: Exchange, place: Place, decode: Callable[[Call], Payload]) -> None:
    """Decode on another thread, then submit. ``request`` has no arrays yet, and ends in :func:`finish`.

    ``decode`` gets a function that makes a call at ``place``.
    """
    request.context = exchange
    elsewhere(place, partial(_decode, request, decode), partial(_decoded, request))
    exchange.model.begun += 1


def watch(model: ServedModel, request: InferRequest) -> None:
    """Show an admitted request to a comparison of versions. A fault there does not concern the request."""
    try:
        if model.watch is not None:
            model.watch(request)
    except Exception:
        log.exception("comparing versions failed model=%s", model.name)


def _submit(request: InferRequest, exchange: Exchange) -> None:
    """Hand a decoded request to the cache or the scheduler. Raises SlipwayError if it is refused."""
    model = exchange.model
    if request.rows > model.max_rows:
        raise too_many_rows(request.rows, model.max_rows)
    apply_options(exchange, request)
    request.decoded_ns = perf_counter_ns()
    try:
        if model.cache is None:
            model.submit(request)
        else:
            model.cache.submit(request, model.submit)
    except BaseException:
        request.refuse()
        raise


def too_many_rows(rows: int, max_rows: int) -> BodyTooLarge:
    """The refusal of a request with more rows than the limit."""
    return BodyTooLarge(f"the request has {rows} rows, the limit of --max-rows is {max_rows}; send several requests")


def refused_early(model: ServedModel, head: Head, body: bytes, responder: Responder) -> bool:
    """Refuse a request for load before its body is decoded. Returns True if it was refused.

    A body that may hold a deadline of its own, and a model with a response cache, are never refused early.
    """
    if model.cache is not None or BODY_DEADLINE in body:
        return False
    try:
        model.scheduler.foresee(header_deadline_ns(model, head))
    except SlipwayError as error:
        refuse(model, error, head, responder)
        return True
    return False


def _decode(request: InferRequest, decode: Callable[[Call], Payload], call: Call) -> Payload:
    """Decode a body on another thread, and compute there what the event loop would need long for.

    Raises ClientGone without decoding if the client has left.
    """
    exchange: Exchange = request.context
    model = exchange.model
    if request.abandoned:
        raise ClientGone("the client closed the connection before its body was decoded")
    payload = decode(call)
    request.object_bytes = held_bytes([array for array in payload.arrays if array.dtype.kind == "O"])
    if model.cache is not None:
        request.digest = digest(payload.arrays)
    return payload


def _decoded(request: InferRequest, end: Payload | BaseException) -> None:
    """Continue a request after its body was decoded on another thread, or failed to decode."""
    exchange: Exchange = request.context
    model = exchange.model
    try:
        if isinstance(end, BaseException):
            raise end
        if request.abandoned:
            raise ClientGone("the client closed the connection while its body was decoded")
        exchange.payload = end
        request.arrays, request.rows = end.arrays, end.rows
        _submit(request, exchange)
    except SlipwayError as error:
        request.error = error
        request.done(request)
    except BaseException as error:
        log.exception("decoding or submitting a body failed model=%s", model.name)
        request.error = SlipwayError("the body could not be decoded; the server's log has the details")
        request.error.__cause__ = error
        request.done(request)
    else:
        watch(model, request)
    finally:
        model.begun -= 1


def require_tensors(model: ServedModel) -> None:
    """Raises MalformedInput for a script: it takes whole bodies and has no tensors."""
    if model.scripted:
        raise MalformedInput(
            f"model {model.name!r} is a script and takes whole bodies; send the request to /invocations"
        )


def finish(request: InferRequest) -> None:
    """Encode and send the outputs, or the error. Called when the request has ended."""
    exchange: Exchange = request.context
    model = exchange.model
    outputs = request.outputs
    if outputs is None or request.abandoned:
        fail(request, exchange)
        return
    assert exchange.writer is not None
    only = outputs[0] if len(outputs) == 1 else None
    size_bytes = only.nbytes if only is not None and only.dtype.kind != "O" else size_of(outputs)
    if size_bytes > LARGE_BYTES:
        place = place_of(exchange.writer, size_bytes, model.spec.outputs)
        if place is not Place.LOOP:
            elsewhere(place, partial(_encode, request, exchange.writer, outputs), partial(_encoded, request))
            return
    try:
        encoded = exchange.writer.encode(outputs, exchange.payload, model.spec, model.name, model.version)
    except Exception as error:  # noqa: BLE001 - sent and logged by _encoded
        _encoded(request, error)
        return
    _send(request, exchange, *encoded)


def _encode(request: InferRequest, writer: Writer, outputs: Sequence[Array], call: Call) -> Encoded:
    """Encode large outputs on another thread. Raises ClientGone without encoding if the client has left."""
    exchange: Exchange = request.context
    model, asked = exchange.model, exchange.payload
    if request.abandoned:
        raise ClientGone("the client closed the connection before its response was encoded")
    form = Payload((), asked.rows, asked.style, asked.request_id, None, asked.wanted, asked.notes)
    encoded: Encoded = call(writer.encode, list(outputs), form, model.spec, model.name, model.version)
    return encoded


def _encoded(request: InferRequest, end: Encoded | BaseException, send: Send | None = None) -> None:
    """Send a response that was encoded on another thread, or the error of its encoding. Raises nothing."""
    exchange: Exchange = request.context
    if not isinstance(end, BaseException) and not request.abandoned:
        try:
            (send or _send)(request, exchange, *end)
        except Exception as error:  # noqa: BLE001 - logged there
            request.rescue(error)
        return
    if isinstance(end, SlipwayError):
        request.error = end
    elif isinstance(end, BaseException):
        log.error("encoding a response failed model=%s", exchange.model.name, exc_info=end)
        request.error = SlipwayError("the response could not be encoded; the server's log has the details")
        request.error.__cause__ = end
    fail(request, exchange)


def _send(request: InferRequest, exchange: Exchange, body: bytes, content_type: bytes, headers: Headers) -> None:
    """Send an encoded response; one that is large enough is compressed on another thread if the client accepts that."""
    if len(body) >= SMALLEST_BYTES:
        encoding = encoding_for(exchange.head)
        if encoding:
            work = partial(compressed, (body, content_type, headers), encoding)
            on_thread(work, partial(_encoded, request, send=_deliver))
            return
    _deliver(request, exchange, body, content_type, headers)


def _deliver(request: InferRequest, exchange: Exchange, body: bytes, content_type: bytes, headers: Headers) -> None:
    model, head = exchange.model, exchange.head
    encoded_ns = perf_counter_ns()
    if exchange.timing_header or exchange.echo:
        headers = [*headers, *requested_headers(request, head, encoded_ns, exchange)]
    if request.cached:
        headers = [*headers, (CACHE, request.cached.encode())]
        model.metrics.cached.add(request.rows, request.picked_ns - request.decoded_ns)
    exchange.responder.send(200, content_type, body, headers)
    request.answered = True
    if exchange.captured is not None and model.capture is not None:
        model.capture.take(model, head.headers, exchange.captured, content_type, body, headers)
    metrics = model.metrics
    metrics.answers["ok"] += 1
    sent_ns = perf_counter_ns()
    metrics.stages.record(request, head.begun_ns, head.received_ns, encoded_ns, sent_ns)
    if model.trace is not None:
        model.trace.record(metrics, head, request, "ok", 200, encoded_ns, sent_ns)


def fail(request: InferRequest, exchange: Exchange) -> None:
    """Count and send the error of a request; nothing is sent to a client that has left."""
    error = request.error or ClientGone("the client closed the connection before its response was ready")
    model = exchange.model
    model.metrics.fail(error.code, exchange.head.received_ns)
    if isinstance(error, ClientGone):
        release(error)
    else:
        send_failure(error, exchange.head, exchange.responder)
    request.answered = True
    if model.trace is not None:
        model.trace.record(model.metrics, exchange.head, request, error.code, status_of(error), 0, perf_counter_ns())
