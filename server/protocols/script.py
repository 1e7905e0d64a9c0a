"""The way of a request to a user's script: the whole body goes there, a whole body comes back."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter_ns

from ..errors import MalformedInput, SlipwayError
from ..models import ServedModel
from ..request import REQUEST_ID_HEADERS, Head, InferRequest
from ..scripts.call import Answer, Call, as_array
from ..scripts.failures import BODILESS
from ..scripts.media import accepted, media_of
from . import Responder
from .failure import request_id, send_failure
from .inference import NOTHING, Exchange, carried, fail, obey
from .sagemaker.sessions import SessionHead
from .script_pieces import PieceStream

log = logging.getLogger("slipway.inference")

SERVER_ERROR = 500


class Scripts:
    """Hands requests to scripts. The defaults stand in for a missing Content-Type, and an Accept that says nothing."""

    def __init__(self, default_content_type: str, default_accept: str) -> None:
        self._default_content_type = default_content_type
        self._default_accept = default_accept

    def invoke(self, model: ServedModel, head: Head, body: bytes, responder: Responder) -> InferRequest | None:
        """Answer a request, now when it is refused, later when it is admitted."""
        content_type, charset = media_of(head.get(b"content-type"), self._default_content_type)
        accept = accepted(head.get(b"accept"), self._default_accept)
        identity = request_id(head)
        if not any(head.get(name) for name in REQUEST_ID_HEADERS):
            # The one name of this request from here on: for the script, the log and the body of an error.
            head.headers = [*head.headers, (b"x-request-id", identity.encode())]
        call = Call(body, content_type, accept, head.headers, identity, charset)
        exchange = Exchange(model, head, responder, NOTHING)
        request = InferRequest((as_array((call,)),), 1, _finish, exchange)
        request.size_bytes = len(body)
        try:
            obey(exchange, request)
            call.deadline_ns = call.ends_ns = request.deadline_ns
            call.sink = PieceStream(asyncio.get_running_loop(), request)
            request.decoded_ns = perf_counter_ns()
            if isinstance(head, SessionHead):
                call.session = head.session
                model.scheduler.submit(request, head.session.id)  # runs are not shared: their calls have one context
            else:
                model.submit(request)
        except SlipwayError as error:
            call.sink = None
            model.metrics.answers[error.code] += 1
            send_failure(error, head, responder)
            return None
        if model.watch is not None:
            model.watch(request)
        return request


def require_tensors(model: ServedModel) -> None:
    """Raises MalformedInput for a model that takes whole bodies: it has no tensors to be named or decoded."""
    if model.scripted:
        raise MalformedInput(f"model {model.name!r} is a script and takes whole bodies: ask it at /invocations")


def _finish(request: InferRequest) -> None:
    """Called by the scheduler, once: send what the script answered, or the error."""
    exchange: Exchange = request.context
    outputs = request.outputs
    call: Call = request.arrays[0][0]
    stream, call.sink = call.sink, None  # a circle through an array of objects, which no collector looks into
    if isinstance(stream, PieceStream) and stream.begun:
        stream.finish(request.error or (outputs[0][0].error if outputs is not None else None))
        return
    if outputs is None or request.abandoned:
        fail(request, exchange)
        return
    answer: Answer = outputs[0][0]
    if answer.error is not None:
        request.error = answer.error
        fail(request, exchange)
        return
    _charge(request, answer)
    headers = answer.headers
    encoded_ns = perf_counter_ns()
    if exchange.carrier:
        own = {name for name, _ in headers}
        ours = carried(request, exchange.head, encoded_ns, exchange)
        headers = [*headers, *(pair for pair in ours if pair[0] not in own)]
    body = b"" if answer.status in BODILESS else answer.body
    exchange.responder.send(answer.status, answer.content_type.encode(), body, headers)
    metrics = exchange.model.metrics
    metrics.answers["ok" if answer.status < SERVER_ERROR else "script_error"] += 1
    metrics.stages.record(request, exchange.head.begun_ns, exchange.head.received_ns, encoded_ns, perf_counter_ns())


def _charge(request: InferRequest, answer: Answer) -> None:
    """Charge ``input_fn`` to decode and ``output_fn`` to encode, where they belong, although both ran with the model.

    The stamps between are shifted, so the stages still add up to the whole: what is left to compute is the run without
    the two.
    """
    request.decoded_ns += answer.decode_ns
    request.picked_ns += answer.decode_ns
    request.assembled_ns += answer.decode_ns
    request.computed_ns -= answer.encode_ns
    request.scattered_ns -= answer.encode_ns
