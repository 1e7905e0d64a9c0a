"""Requests to a user's script: the whole request body goes to the script, a whole response body comes back."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

from ...errors import SlipwayError
from ...models import ServedModel
from ...request import REQUEST_ID_HEADERS, Head, InferRequest
from ...scripts.call import Call, ScriptResponse, as_array
from ...scripts.chunks import CLOSED
from ...scripts.media_types import accepted, media_of
from ...scripts.responses import BODILESS
from .. import Responder
from ..exchange import Exchange
from ..failure import request_id
from ..inference import NO_PAYLOAD, fail, refuse, watch
from ..request_options import apply_options
from ..response_headers import requested_headers
from .script_stream import ScriptStream
from .sessions import SessionHead

SERVER_ERROR = 500


class ScriptCalls:
    """Submits requests to scripts. The defaults replace a missing Content-Type, and an Accept without a preference."""

    def __init__(self, default_content_type: str, default_accept: str) -> None:
        self._default_content_type = default_content_type
        self._default_accept = default_accept

    def invoke(self, model: ServedModel, head: Head, body: bytes, responder: Responder) -> InferRequest | None:
        """Submit a request; a refusal is sent at once. Returns the request, None if it was refused."""
        content_type, charset = media_of(head.get(b"content-type"), self._default_content_type)
        accept = accepted(head.get(b"accept"), self._default_accept)
        identity = request_id(head)
        if not any(head.get(name) for name in REQUEST_ID_HEADERS):
            # The script, the log and an error's body all show this id.
            head.headers = [*head.headers, (b"x-request-id", identity.encode())]
        call = Call(body, content_type, accept, head.headers, identity, charset)
        if model.capture is not None:
            responder = model.capture.around(model, head, body, responder)
        exchange = Exchange(model, head, responder, NO_PAYLOAD)
        request = InferRequest((as_array((call,)),), 1, _finish, exchange)
        request.size_bytes = len(body)
        try:
            apply_options(exchange, request)
            call.deadline_ns = request.deadline_ns
            call.sink = ScriptStream(asyncio.get_running_loop(), request)
            request.decoded_ns = perf_counter_ns()
            if isinstance(head, SessionHead):
                call.session = head.session
                model.scheduler.submit(request, head.session.id)  # the calls of a run share one context
            else:
                model.submit(request)
        except BaseException as error:
            request.refuse()
            call.sink = None
            if not isinstance(error, SlipwayError):
                raise
            refuse(model, error, head, responder)
            return None
        if model.watch is not None:
            watch(model, request)
        return request


def _finish(request: InferRequest) -> None:
    """Send the script's response, or the error. Called when the request has ended."""
    exchange: Exchange = request.context
    outputs = request.outputs
    call: Call = request.arrays[0][0]
    # Without its sink the request is in no cycle through an object array, which the garbage collector does not see. The
    # run may go on after the deadline: it finds a closed sink.
    stream, call.sink = call.sink, CLOSED
    if isinstance(stream, ScriptStream) and stream.begun:
        stream.finish(request.error or (outputs[0][0].error if outputs is not None else None))
        return
    if outputs is None or request.abandoned:
        fail(request, exchange)
        return
    response: ScriptResponse = outputs[0][0]
    if response.error is not None:
        request.error = response.error
        fail(request, exchange)
        return
    _charge(request, response)
    headers = response.headers
    encoded_ns = perf_counter_ns()
    own = {name for name, _ in headers}
    asked = requested_headers(request, exchange.head, encoded_ns, exchange)
    headers = [*headers, *(pair for pair in asked if pair[0] not in own)]
    body = b"" if response.status in BODILESS else response.body
    exchange.responder.send(response.status, response.content_type.encode(), body, headers)
    request.answered = True
    model, head = exchange.model, exchange.head
    outcome = "ok" if response.status < SERVER_ERROR else "script_error"
    model.metrics.answers[outcome] += 1
    sent_ns = perf_counter_ns()
    model.metrics.stages.record(request, head.begun_ns, head.received_ns, encoded_ns, sent_ns)
    if model.trace is not None:
        model.trace.record(model.metrics, head, request, outcome, response.status, encoded_ns, sent_ns)


def _charge(request: InferRequest, response: ScriptResponse) -> None:
    """Count ``input_fn`` as decode and ``output_fn`` as encode, although both ran inside the run.

    The time stamps between are shifted, so that the stages still add up to the total.
    """
    request.decoded_ns += response.decode_ns
    request.picked_ns += response.decode_ns
    request.assembled_ns += response.decode_ns
    request.computed_ns -= response.encode_ns
    request.scattered_ns -= response.encode_ns
