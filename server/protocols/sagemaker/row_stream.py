"""Row streams: a request of many rows runs in parts, and the lines of each part are sent in the order of the rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import perf_counter_ns

from ...codecs import Codec
from ...errors import ClientGone, Overloaded, SlipwayError
from ...models import ServedModel
from ...observe.runs import RequestRun, runs_of
from ...request import Head, InferRequest, Payload
from ..exchange import Exchange
from ..failure import send_failure, status_of
from ..inference import refuse, too_many_rows
from ..offload import LARGE_BYTES, Call, Place, directly, elsewhere, place_of
from ..request_options import apply_options
from ..responder import Outlet, Responder
from ..streaming import begin

log = logging.getLogger("slipway.inference")

OK, CLIENT_LEFT = 200, 499
MOST_RUNS = 128
"""Parts of a stream whose runs are traced; as many links has a span by default."""

RETRY_S = 0.02
"""Delay before a part is submitted again that was shed although parts before it were admitted."""


def stream_rows(
    model: ServedModel,
    head: Head,
    body: bytes,
    responder: Responder,
    reader: Codec,
    writer: Codec,
    parameters: Mapping[str, str],
    rows: int = 0,
) -> InferRequest | None:
    """Respond with lines, ``rows`` at a time (0: the model's largest batch). The model must give one row of output for
    each row of input. The response cache and shadow comparisons skip such a request; its stage times are those of the
    first part."""
    first = InferRequest((), 1, _nothing)
    if model.capture is not None:
        responder = model.capture.around(model, head, body, responder)

    def decoded(end: Payload | BaseException) -> InferRequest | None:
        try:
            if isinstance(end, BaseException):
                raise end
            if end.rows > model.max_rows:
                raise too_many_rows(end.rows, model.max_rows)
            if first.abandoned:
                raise ClientGone("the client closed the connection while its body was decoded")
            return RowStream(model, head, responder, end, writer, rows or model.max_batch_size).start(first)
        except BaseException as error:
            if not isinstance(error, SlipwayError):
                log.error("starting a stream of rows failed model=%s", model.name, exc_info=error)
                error = SlipwayError("the server failed on this request; its log has the details")
            refuse(model, error, head, responder)
            return None

    def then(end: Payload | BaseException) -> None:
        model.begun -= 1
        decoded(end)

    def decode(call: Call) -> Payload:
        try:
            payload: Payload = call(reader.decode, body, head, parameters, model.spec)
            return payload
        except SlipwayError:
            raise
        except Exception as error:
            log.exception("decoding a body failed model=%s", model.name)
            raise SlipwayError("the body could not be decoded; the server's log has the details") from error

    size_bytes = reader.expanded_bytes(body, model.spec)
    place = place_of(reader, size_bytes, model.spec.inputs) if size_bytes > LARGE_BYTES else Place.LOOP
    if place is not Place.LOOP:
        elsewhere(place, decode, then)
        model.begun += 1
        return first
    try:
        return decoded(decode(directly))
    except SlipwayError as error:
        return decoded(error)


def _nothing(request: InferRequest) -> None:
    """The completion of a request that was never submitted."""


class RowStream:
    """One request whose rows are streamed."""

    def __init__(
        self, model: ServedModel, head: Head, responder: Responder, payload: Payload, writer: Codec, part_rows: int
    ) -> None:
        self._model = model
        self._head = head
        self._responder = responder
        self._payload = payload
        self._writer = writer
        self._part_rows = part_rows
        self._window = model.instances + 1  # one part for each instance, and one that waits
        self._given = 0  # rows that were submitted
        self._sent = 0  # rows that were written
        self._running: dict[int, InferRequest] = {}  # by first row
        self._ready: dict[int, InferRequest] = {}
        self._outlet: Outlet | None = None
        self._over = False
        self._submitting = False
        self._begun = False  # counted among the model's streams
        self._first: InferRequest | None = None
        self._runs: list[RequestRun] = []  # of its parts, where requests are traced

    def start(self, first: InferRequest) -> InferRequest:
        """Submit the first parts; ``first``, which the connection watches, becomes the first of them.

        Raises the scheduler's refusal of the first part; nothing has been sent then.
        """
        exchange = Exchange(self._model, self._head, self._responder, self._payload, self._writer)
        part = self._part()
        first.arrays, first.rows, first.done, first.context = part.arrays, part.rows, part.done, part.context
        first.respond, first.decoded_ns = part.respond, part.decoded_ns
        self._first = first
        apply_options(exchange, first)
        self._submit(first)
        if not self._over:
            self._model.begun += 1
            self._begun = True
        try:
            self.resume()
        except Exception as error:  # noqa: BLE001 - sent to the client; the first part runs
            self._fail(error)
        return first

    def resume(self) -> None:
        """Submit as many parts as the window and the client's reading allow."""
        if self._submitting:
            return  # a model that runs on the event loop completes inside submit
        self._submitting = True
        try:
            while not self._over and self._given < self._payload.rows and len(self._running) < self._window:
                if self._outlet is not None and not self._outlet.writable:
                    break
                self._submit(self._part())
        except Overloaded:
            if not self._running:
                asyncio.get_running_loop().call_later(RETRY_S, self.resume)
        except Exception as error:  # noqa: BLE001 - sent to the client
            self._fail(error)
        finally:
            self._submitting = False

    def gone(self) -> None:
        """Abandon the parts of a client that has left."""
        self._finish(ClientGone.code, CLIENT_LEFT)

    def _part(self) -> InferRequest:
        begin_row = self._given
        end_row = min(begin_row + self._part_rows, self._payload.rows)
        arrays = tuple(array[begin_row:end_row] for array in self._payload.arrays)
        request = InferRequest(arrays, end_row - begin_row, self._done, begin_row)
        if self._first is not None:
            request.deadline_ns, request.patience_ns = self._first.deadline_ns, self._first.patience_ns
        request.decoded_ns = perf_counter_ns()
        return request

    def _submit(self, request: InferRequest) -> None:
        """Submit one part. Raises the scheduler's refusal; the part is then forgotten."""
        self._running[request.context] = request
        self._given += request.rows
        try:
            self._model.submit(request)
        except BaseException:
            request.refuse()
            del self._running[request.context]
            self._given -= request.rows
            raise

    def _done(self, request: InferRequest) -> None:
        self._running.pop(request.context, None)
        if self._over:
            return
        error = request.error
        if error is not None and not isinstance(error, ClientGone):
            self._fail(error)
        elif request.abandoned or request.outputs is None:
            self.gone()
        else:
            self._ready[request.context] = request
            if self._model.trace is not None and len(self._runs) < MOST_RUNS:
                self._runs += runs_of(request)
            self._write()
            self.resume()

    def _write(self) -> None:
        """Send every finished part that is next in order."""
        while not self._over and self._sent in self._ready:
            request = self._ready.pop(self._sent)
            assert request.outputs is not None
            model, asked = self._model, self._payload
            part = Payload((), request.rows, asked.style, wanted=asked.wanted)
            try:
                lines, content_type, _ = self._writer.encode(
                    request.outputs, part, model.spec, model.name, model.version
                )
            except Exception as error:  # noqa: BLE001 - sent to the client
                self._fail(error)
                return
            encoded_ns = perf_counter_ns()
            if self._outlet is None:
                self._outlet = begin(self._head, self._responder, 200, content_type, self)
                head = self._head
                model.metrics.stages.record(request, head.begun_ns, head.received_ns, encoded_ns, perf_counter_ns())
            else:
                model.metrics.streamed_rows += request.rows
            self._outlet.write(lines)
            self._sent += request.rows
        if not self._over and self._sent == self._payload.rows:
            assert self._outlet is not None
            self._finish("ok", OK)
            self._outlet.end()

    def _fail(self, error: Exception) -> None:
        """End the response with an error; the parts that are left are dropped."""
        if self._over:
            return
        if not isinstance(error, SlipwayError):
            log.error("streaming rows failed model=%s", self._model.name, exc_info=error)
            error = SlipwayError("the server failed on this request; its log has the details")
        self._finish(error.code, OK if self._outlet is not None else status_of(error))
        if self._outlet is None:
            send_failure(error, self._head, self._responder)
        else:
            self._outlet.fail(error)

    def _finish(self, outcome: str, status: int) -> None:
        if self._over:
            return
        self._over = True
        model = self._model
        model.begun -= self._begun
        if outcome == "ok":
            model.metrics.answers["ok"] += 1
        else:
            model.metrics.fail(outcome, self._head.received_ns)
        if model.trace is not None:
            model.trace.record(model.metrics, self._head, None, outcome, status, 0, perf_counter_ns(), self._runs)
        self._ready.clear()
        for request in self._running.values():
            request.abandoned = True
