"""The inference calls: ModelInfer, and ModelStreamInfer, through the path of every other protocol."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from ..errors import SlipwayError
from ..http.limits import ProcessAccount
from ..lifecycle import Lifecycle
from ..models import Models
from ..observe.metrics import Metrics
from ..protocols.failure import refuse
from ..protocols.inference import infer, require_tensors
from ..request import Head
from . import wire
from .call import OK, Call
from .codec import InferMessages
from .codes import Code, code_of
from .inference_pb2 import InferParameter, ModelInferResponse
from .running import Running

STREAMED = 64
"""Requests of one stream that are under way; beyond them the stream is not read."""

FINAL = ModelInferResponse(parameters={"triton_final_response": InferParameter(bool_param=True)}).SerializeToString()
"""The parameter that says that no further response to a request follows, which Triton's streams have."""


class Inference:
    """Runs the infer requests of all calls."""

    def __init__(self, models: Models, lifecycle: Lifecycle, metrics: Metrics, account: ProcessAccount) -> None:
        """``account``: the received bytes that the whole server holds."""
        self._models = models
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._account = account
        self._raw, self._typed = InferMessages(interpreted=False), InferMessages(interpreted=True)

    @property
    def codecs(self) -> tuple[InferMessages, InferMessages]:
        """The codecs of raw and of typed contents."""
        return self._raw, self._typed

    def unary(self, call: Call, body: bytes) -> None:
        """One serialized ModelInferRequest to a serialized ModelInferResponse."""
        running = Running(self._account, partial(_answer, call))
        call.owner = running
        self._begin(running, body, call.head())

    def stream(self, call: Call) -> InferStream:
        """Requests to responses, in their order."""
        return InferStream(call, self._account, self._begin)

    def _begin(self, running: Running, body: bytes, head: Head) -> None:
        """Start a request. A refusal is its response."""
        try:
            running.hold(len(body))
            name, version, running.identity, raw = wire.address(body)
            model = self._models.get(name, version) if version else self._models.ask(name, head)
            require_tensors(model)
        except SlipwayError as error:
            refuse(error, self._lifecycle, self._metrics, head, running)
            return
        running.began(infer(model, head, body, running, self._raw if raw else self._typed, self._raw))


def _answer(call: Call, running: Running) -> None:
    """Send the response of the only request of a call."""
    if running.status == OK:
        call.respond(running.body, running.headers)
    else:
        call.fail(code_of(running.status), running.problem(), running.headers)


class InferStream:
    """One call of ModelStreamInfer. An error is a response, and the stream goes on."""

    def __init__(self, call: Call, account: ProcessAccount, begin: Callable[[Running, bytes, Head], None]) -> None:
        self._call = call
        self._account = account
        self._begin = begin
        self._running: deque[Running] = deque()  # those whose response is not sent, in their order
        self._ending: Code | None = None  # once no more requests are taken

    @property
    def room(self) -> bool:
        """Whether another request may begin: few are under way, and the client reads the responses."""
        return len(self._running) < STREAMED and self._ending is None and not self._call.stream.unsent

    def message(self, body: bytes) -> None:
        """The next request."""
        running = Running(self._account, self._sent)
        self._running.append(running)
        self._begin(running, body, self._call.message_head())

    def ended(self) -> None:
        self._end(Code.OK)

    def leave(self) -> None:
        self._end(Code.UNAVAILABLE)

    def over(self, then: Callable[[], None]) -> None:
        waiting, self._running = self._running, deque()
        left = len(waiting)

        def ended() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for one in waiting:
            one.over(ended)
        if not waiting:
            then()

    def _end(self, code: Code) -> None:
        """End when all requests that were taken have their response."""
        if self._ending is None:
            self._ending = code
        self._advance()

    def _sent(self, _: Running) -> None:
        self._advance()

    def _advance(self) -> None:
        """Send the responses whose turn it is."""
        waiting = self._running
        while waiting and waiting[0].status:
            self._call.write(_streamed(waiting.popleft()))
        if self._ending is None:
            self._call.more()
        elif not waiting:
            self._call.fail(self._ending, "" if self._ending is Code.OK else "the server is draining")


def _streamed(running: Running) -> bytes:
    if running.status == OK:
        return wire.stream_response(running.body + FINAL)
    return wire.stream_response(ModelInferResponse(id=running.identity).SerializeToString(), running.problem())
