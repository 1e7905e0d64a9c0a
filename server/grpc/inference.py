"""The inference calls: ModelInfer, and ModelStreamInfer, through the path of every other protocol."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import Any

import grpc

from ..errors import NotReady, ServerFull, SlipwayError
from ..http.limits import SMALL_BODY_BYTES, ProcessAccount
from ..lifecycle import Lifecycle, Phase
from ..models import Models
from ..observe.metrics import Metrics
from ..protocols.failure import send_failure
from ..protocols.inference import infer, require_tensors
from ..request import Head, InferRequest
from . import wire
from .call import OK, Reply, head_of, refuse
from .codec import InferMessages
from .codes import trailing
from .inference_pb2 import InferParameter, ModelInferResponse

STREAMED = 64
"""Requests of one stream that are under way; beyond them the stream is not read."""

INFER, STREAM = b"/inference.GRPCInferenceService/ModelInfer", b"/inference.GRPCInferenceService/ModelStreamInfer"

FINAL = ModelInferResponse(parameters={"triton_final_response": InferParameter(bool_param=True)}).SerializeToString()
"""The parameter that says that no further response to a request follows, which Triton's streams have."""


class Running:
    """A request that is under way: its reply, its id, and the received bytes that it holds."""

    __slots__ = ("_account", "_held_bytes", "_request", "identity", "reply")

    def __init__(self, account: ProcessAccount) -> None:
        self.reply = Reply()
        self.identity = ""
        self._account = account
        self._held_bytes = 0
        self._request: InferRequest | None = None

    def hold(self, size_bytes: int) -> None:
        """Count a received message until the call is over. Raises ServerFull."""
        if size_bytes <= SMALL_BODY_BYTES:
            return
        if self._account.full(size_bytes):
            self._account.refused += 1
            raise ServerFull("the server holds as many received bytes as it may; retry later")
        self._account.move(size_bytes)
        self._held_bytes = size_bytes

    def began(self, request: InferRequest | None) -> None:
        """The request was handed on; None: it was refused."""
        self._request = request

    def leave(self) -> None:
        """The call is over. A request without a response is abandoned; its bytes count until it has ended."""
        request, held_bytes, account = self._request, self._held_bytes, self._account
        self._held_bytes = 0
        if request is None or request.ended or self.reply.status:
            account.move(-held_bytes)
            return
        request.abandoned = True
        done = request.done

        def release(ended: InferRequest) -> None:
            account.move(-held_bytes)
            done(ended)

        request.done = release


class Inference:
    """Runs the infer requests of all calls."""

    def __init__(self, models: Models, lifecycle: Lifecycle, metrics: Metrics, account: ProcessAccount) -> None:
        """``account``: the received bytes that the whole server holds."""
        self._models = models
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._account = account
        self._raw, self._typed = InferMessages(interpreted=False), InferMessages(interpreted=True)
        self._reading: set[asyncio.Task[None]] = set()

    @property
    def codecs(self) -> tuple[InferMessages, InferMessages]:
        """The codecs of raw and of typed contents."""
        return self._raw, self._typed

    async def unary(self, body: bytes, context: Any) -> bytes:
        """One serialized ModelInferRequest to a serialized ModelInferResponse."""
        running = self._begin(body, head_of(INFER, context, perf_counter_ns()))
        reply = running.reply
        try:
            if not reply.status:
                await reply.sent
        finally:
            running.leave()
        if reply.status != OK:
            await refuse(context, reply)
        if reply.headers:
            context.set_trailing_metadata(trailing(reply.headers))
        return reply.body

    async def stream(self, _: Any, context: Any) -> None:
        """Requests, read from the context, to responses, in their order. An error is a response; the stream goes on."""
        waiting: asyncio.Queue[Running | None] = asyncio.Queue()
        room = asyncio.Semaphore(STREAMED)
        reading = asyncio.ensure_future(self._read(context, waiting, room))
        self._reading.add(reading)
        running: Running | None = None
        try:
            while (running := await waiting.get()) is not None:
                await running.reply.sent
                await context.write(_streamed(running))
                running.leave()
                room.release()
        finally:
            self._reading.discard(reading)
            reading.cancel()
            while running is not None:
                running.leave()
                running = None if waiting.empty() else waiting.get_nowait()
        await asyncio.wait([reading])
        if reading.cancelled():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining")
        reading.result()

    def stop_reading(self) -> None:
        """Take no more requests from open streams: each ends when all of its requests have their response."""
        for one in self._reading:
            one.cancel()

    async def _read(self, context: Any, waiting: asyncio.Queue[Running | None], room: asyncio.Semaphore) -> None:
        """Begin the requests of a stream, each when there is room for it. None marks the end."""
        try:
            while True:
                await room.acquire()
                body = await context.read()
                if body is grpc.aio.EOF:
                    return
                waiting.put_nowait(self._begin(body, head_of(STREAM, context, perf_counter_ns())))
        finally:
            waiting.put_nowait(None)

    def _begin(self, body: bytes, head: Head) -> Running:
        """Start a request. A refusal is its reply."""
        running = Running(self._account)
        try:
            running.hold(len(body))
            name, version, running.identity, raw = wire.address(body)
            model = self._models.get(name, version) if version else self._models.ask(name, head)
            require_tensors(model)
        except SlipwayError as error:
            refusal = NotReady("the server is starting") if self._lifecycle.phase is Phase.STARTING else error
            self._metrics.refused[refusal.code] += 1
            send_failure(refusal, head, running.reply)
            return running
        running.began(infer(model, head, body, running.reply, self._raw if raw else self._typed, self._raw))
        return running


def _streamed(running: Running) -> bytes:
    reply = running.reply
    if reply.status == OK:
        return wire.stream_response(reply.body + FINAL)
    return wire.stream_response(ModelInferResponse(id=running.identity).SerializeToString(), reply.problem())
