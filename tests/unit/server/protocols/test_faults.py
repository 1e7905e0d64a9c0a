"""Faults in protocols, codecs, cache, traffic and HTTP: each request gets one response, or a broken connection.

Requests go through a real connection object, the real handlers and a real scheduler on the event loop. Their functions
raise at chosen calls, as bugs would.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.cache import ResponseCache
from server.codecs.json import Json
from server.codecs.jsonlines import JsonLines
from server.errors import ModelFailed
from server.models.traffic import Shadow
from server.observe.metrics import ModelMetrics
from server.protocols import inference, offload
from server.protocols.sagemaker import row_stream, script_calls, script_stream
from server.protocols.sagemaker.row_stream import RowStream, stream_rows
from server.protocols.sagemaker.script_calls import ScriptCalls
from server.request import Head, InferRequest
from server.scheduling.queue import BatchQueue
from server.scheduling.scheduler import Scheduler
from server.scripts.call import Call, ScriptResponse, as_array
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.faults import Faults
from tests.unit.server.http.test_hot_protocol import Wire, post

SPEC = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 2)),), (TensorSpec("y", BY_NAME["FP32"], (-1, 2)),))
ERRORS = (ValueError("a fault"), MemoryError(), ModelFailed("a fault of ours"))
PATIENCE_S = 10.0
TIMED = b"X-Slipway-Timing: 1\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Planted faults need not be formatted."""
    logger = logging.getLogger("slipway")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


class Response:
    """The bytes of a connection, as a client's parser reads them."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.complete = 0
        self.status = 0
        if data:
            parser = httptools.HttpResponseParser(self)
            parser.feed_data(data)
            self.status = parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


class Model:
    """A model that doubles its rows on the event loop, as the registry would serve it."""

    def __init__(self, loop: Any, *, cached: bool = False) -> None:
        self.name, self.version = "m", "1"
        self.spec = SPEC
        self.metrics = ModelMetrics("m", "1")
        self.cache = ResponseCache(1_000_000, lambda: 0) if cached else None
        self.watch: Callable[[InferRequest], None] | None = None
        self.trace = self.capture = None
        self.deadline_ns, self.max_rows, self.begun = 0, 1_000_000, 0
        self.instances, self.max_batch_size = 1, 4
        self.independent = True
        self.queue = BatchQueue(4, [(1, 1e6), (4, 1e6)])
        self.scheduler = Scheduler(
            *(self.queue, self.run, loop),
            instances=1,
            inline=True,
            max_queue_ns=10**12,
            on_batch=self.metrics.record_run,
        )

    def run(self, arrays: tuple[Array, ...]) -> list[Array]:
        return [arrays[0] * 2]

    def submit(self, request: InferRequest) -> None:
        self.scheduler.submit(request)

    def assert_nothing_held(self) -> None:
        waiting = self.queue.waiting
        assert (waiting.rows, waiting.bytes, self.queue.running.requests()) == (0, 0, [])
        if self.cache is not None:
            assert self.cache._flying == {}


class Client:
    """One request on a connection of its own."""

    def __init__(self, loop: Any, handler: Any, body: bytes, headers: bytes = TIMED) -> None:
        self.wire = Wire(loop)
        self.wire.hot.table[b"/m"] = {b"POST": handler}
        self.request = post(body, b"/m", headers)

    def send(self) -> None:
        self.wire.protocol.data_received(self.request)

    @property
    def over(self) -> bool:
        return not self.wire.protocol._active or self.wire.transport.closed

    def response(self) -> Response:
        return Response(self.wire.transport.written)


async def settled(clients: list[Client]) -> None:
    """Until each request has its response, or its connection is closed."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + PATIENCE_S
    while not all(client.over for client in clients):
        assert loop.time() < give_up_s, "a request has no end"
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)


def assert_one_each(clients: list[Client], *, streamed: bool = False) -> None:
    for client in clients:
        response = client.response()
        whole = response.complete == 1
        assert whole or (streamed and client.wire.transport.closed), client.wire.transport.written
        assert response.status in (200, 422, 500, 503)


def infer_handler(model: Model, codec: Json) -> Any:
    def handle(head: Head, body: bytes, responder: Any) -> Any:
        return inference.infer(cast(Any, model), head, body, responder, codec, codec)

    return handle


class Stack:
    """The objects of one scenario, in which faults are planted."""

    def __init__(self, cached: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.codec = Json()
        self.model = Model(self.loop, cached=cached)
        self.shadow = Model(self.loop)
        self.shadow.version = "2"
        self.traffic = Shadow(cast(Any, self.model), cast(Any, self.shadow))
        self.traffic.attach()

    def client(self, value: float, rows: int) -> Client:
        body = f'{{"instances":{[[value, value]] * rows}}}'.encode()
        return Client(self.loop, infer_handler(self.model, self.codec), body)


POINTS: dict[str, Callable[[Stack], tuple[Any, str]]] = {
    "decode": lambda one: (one.codec, "decode"),
    "encode": lambda one: (one.codec, "encode"),
    "options": lambda _: (inference, "apply_options"),
    "headers": lambda _: (inference, "requested_headers"),
    "exchange": lambda _: (inference, "Exchange"),
    "submit": lambda one: (one.model, "submit"),
    "stages": lambda one: (one.model.metrics.stages, "record"),
    "record run": lambda one: (one.model.scheduler._completion, "_on_batch"),
    "scatter": lambda one: (one.model.scheduler._completion, "_scatter"),
    "watch": lambda one: (one.model, "watch"),
    "copy": lambda one: (one.shadow, "submit"),
    "compare": lambda one: (one.traffic, "_count"),
    "compare all": lambda one: (one.traffic, "compare"),
}
CACHE_POINTS: dict[str, Callable[[Stack], tuple[Any, str]]] = {
    "keep": lambda one: (one.model.cache, "_keep"),
    "lead": lambda one: (one.model.cache, "_lead"),
    "promote": lambda one: (one.model.cache, "_promote"),
    "cache submit": lambda one: (one.model.cache, "submit"),
    "answer": lambda one: (one.model.cache, "_answer"),
    "push": lambda one: (one.model.queue, "push"),
    "run": lambda one: (one.model.scheduler._completion, "_scatter"),
    "encode": lambda one: (one.codec, "encode"),
}


async def played(
    point: Callable[[Stack], tuple[Any, str]],
    faults: Faults,
    plan: list[tuple[int, int, bool]],
    *,
    cached: bool = False,
) -> None:
    one = Stack(cached)
    owner, name = point(one)
    original = getattr(owner, name)
    faults.plant(owner, name)
    try:
        clients = []
        for value, rows, pause in plan:
            clients.append(one.client(value, rows))
            clients[-1].send()
            if pause:
                await asyncio.sleep(0)
        await settled(clients)
        faults.armed = False
        assert_one_each(clients)
        one.model.assert_nothing_held()
        last = one.client(7, 2)
        last.send()
        await settled([last])
        assert last.response().body == b'{"predictions":[[14.0,14.0],[14.0,14.0]]}'
    finally:
        setattr(owner, name, original)


PLANS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9), st.booleans()), min_size=1, max_size=6)
NUMBERS = st.sets(st.integers(1, 5), min_size=1, max_size=3)
FEW = settings(max_examples=8)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
@given(plan=PLANS, numbers=NUMBERS, error=st.sampled_from(ERRORS))
@FEW
def test_a_fault_on_the_way_of_a_request_ends_in_one_response(
    point: str, after: bool, plan: list[tuple[int, int, bool]], numbers: set[int], error: Exception
) -> None:
    asyncio.run(played(POINTS[point], Faults(error, numbers, after=after), plan))


@pytest.mark.parametrize("point", CACHE_POINTS)
@given(plan=PLANS, numbers=NUMBERS, error=st.sampled_from(ERRORS))
@FEW
def test_a_fault_in_the_cache_fails_no_request_that_waits_for_an_identical_one(
    point: str, plan: list[tuple[int, int, bool]], numbers: set[int], error: Exception
) -> None:
    asyncio.run(played(CACHE_POINTS[point], Faults(error, numbers), plan, cached=True))


@pytest.mark.parametrize("point", ["decode", "encode", "headers", "stages", "options", "submit"])
@given(plan=PLANS, numbers=NUMBERS, error=st.sampled_from(ERRORS))
@FEW
def test_a_fault_beside_the_event_loop_ends_in_one_response(
    point: str, plan: list[tuple[int, int, bool]], numbers: set[int], error: Exception
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "LARGE_BYTES", 0)
        asyncio.run(played(POINTS[point], Faults(error, numbers), plan))


@pytest.mark.parametrize("offloaded", [False, True])
def test_a_thread_that_cannot_be_started_ends_in_one_response(offloaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "LARGE_BYTES", 0)
    faults = Faults(RuntimeError("can't start new thread"), {2} if offloaded else {1})
    monkeypatch.setattr(inference, "elsewhere", faults.around(offload.elsewhere))

    async def scenario() -> None:
        one = Stack(cached=False)
        client = one.client(1, 2)
        client.send()
        await settled([client])
        assert client.response().status == 500
        one.model.assert_nothing_held()

    asyncio.run(scenario())


def test_a_response_whose_head_cannot_be_written_is_an_error_and_the_last_of_its_connection() -> None:
    async def scenario() -> None:
        one = Stack(cached=False)
        client = one.client(1, 2)
        heads = client.wire.hot.heads
        heads.whole = Faults(TypeError("a header is no bytes"), {1}).around(heads.whole)  # type: ignore[method-assign]
        client.send()
        await settled([client])
        response = client.response()
        assert (response.status, response.complete, client.wire.transport.closed) == (500, 1, True)

    asyncio.run(scenario())


def stream_handler(model: Model, codec: JsonLines) -> Any:
    def handle(head: Head, body: bytes, responder: Any) -> Any:
        return stream_rows(cast(Any, model), head, body, responder, codec, codec, {}, 2)

    return handle


STREAM_POINTS: dict[str, Callable[[Model, JsonLines], tuple[Any, str]]] = {
    "decode": lambda _, codec: (codec, "decode"),
    "encode": lambda _, codec: (codec, "encode"),
    "submit": lambda model, _: (model, "submit"),
    "options": lambda *_: (row_stream, "apply_options"),
    "begin": lambda *_: (row_stream, "begin"),
    "part": lambda *_: (RowStream, "_part"),
    "write": lambda *_: (RowStream, "_write"),
    "resume": lambda *_: (RowStream, "resume"),
    "done": lambda *_: (RowStream, "_done"),
    "stages": lambda model, _: (model.metrics.stages, "record"),
    "scatter": lambda model, _: (model.scheduler._completion, "_scatter"),
}


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("point", STREAM_POINTS)
@given(rows=st.lists(st.integers(1, 9), min_size=1, max_size=3), numbers=NUMBERS, error=st.sampled_from(ERRORS))
@FEW
def test_a_fault_in_a_stream_of_rows_ends_in_an_error_or_a_broken_connection(
    point: str, large: bool, rows: list[int], numbers: set[int], error: Exception
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        codec, model = JsonLines(), Model(loop)
        owner, name = STREAM_POINTS[point](model, codec)
        original = getattr(owner, name)
        # The completion and its rescue are one function here: only one of them may fail
        faults = Faults(error, {min(numbers)} if point == "done" else numbers)

        def faulty(*args: Any, **named: Any) -> Any:
            return faults.around(original)(*args, **named)

        setattr(owner, name, faulty)
        headers = b"Content-Type: application/jsonlines\r\n"
        try:
            clients = [Client(loop, stream_handler(model, codec), b"[1,1]\n" * count, headers) for count in rows]
            for client in clients:
                client.send()
            await settled(clients)
            faults.armed = False
            assert_one_each(clients, streamed=True)
            last = Client(loop, stream_handler(model, codec), b"[1,1]\n" * 5, headers)
            last.send()
            await settled([last])
            assert last.response().body == b"[2.0,2.0]\n" * 5
            model.assert_nothing_held()
        finally:
            setattr(owner, name, original)

    with pytest.MonkeyPatch.context() as patch:
        if large:
            patch.setattr(row_stream, "LARGE_BYTES", 0)
        asyncio.run(scenario())


class Script:
    """A script in threads, as far as protocols see it: a whole body, or chunks from the thread of the run."""

    def __init__(self, loop: Any) -> None:
        self.name, self.version = "m", "1"
        self.metrics = ModelMetrics("m", "1")
        self.watch = self.trace = self.capture = None
        self.deadline_ns, self.max_rows, self.begun = 0, 1_000_000, 0
        self.queue = BatchQueue(1, [(1, 1e6)], instances=2)
        self.scheduler = Scheduler(
            *(self.queue, self.run, loop),
            instances=2,
            inline=False,
            max_queue_ns=10**12,
            on_batch=self.metrics.record_run,
        )
        self.submit = self.scheduler.submit

    def run(self, arrays: tuple[Array, ...]) -> list[Array]:
        call: Call = arrays[0][0]
        answer = ScriptResponse(call.body, "text/plain")
        sink = cast(Any, call.sink)
        if call.body.startswith(b"chunks"):
            changed = threading.Event()
            sink.begin(answer, changed)
            for _ in range(3):
                sink.write(b"more")
        return [as_array([answer])]


SCRIPT_POINTS: dict[str, Callable[[Script], tuple[Any, str]]] = {
    "run": lambda script: (script, "run"),
    "submit": lambda script: (script, "submit"),
    "options": lambda _: (script_calls, "apply_options"),
    "call": lambda _: (script_calls, "Call"),
    "stream": lambda _: (script_stream.ScriptStream, "__init__"),
    "charge": lambda _: (script_calls, "_charge"),
    "headers": lambda _: (script_calls, "requested_headers"),
    "begin": lambda _: (script_stream, "begin"),
    "begin stream": lambda _: (script_stream.ScriptStream, "_begin"),
    "write": lambda _: (script_stream.ScriptStream, "_write"),
    "stages": lambda script: (script.metrics.stages, "record"),
    "scatter": lambda script: (script.scheduler._completion, "_scatter"),
}


@pytest.mark.parametrize("point", SCRIPT_POINTS)
@given(
    bodies=st.lists(st.sampled_from([b"whole", b"chunks"]), min_size=1, max_size=5),
    numbers=NUMBERS,
    error=st.sampled_from(ERRORS),
)
@FEW
def test_a_fault_around_a_script_ends_in_an_error_or_a_broken_connection(
    point: str, bodies: list[bytes], numbers: set[int], error: Exception
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        script, calls = Script(loop), ScriptCalls("", "text/plain")
        owner, name = SCRIPT_POINTS[point](script)
        original = getattr(owner, name)
        faults = Faults(error, numbers)

        def faulty(*args: Any, **named: Any) -> Any:
            return faults.around(original)(*args, **named)

        setattr(owner, name, faulty)

        def handle(head: Head, body: bytes, responder: Any) -> Any:
            return calls.invoke(cast(Any, script), head, body, responder)

        try:
            clients = [Client(loop, handle, body) for body in bodies]
            for client in clients:
                client.send()
            await settled(clients)
            faults.armed = False
            assert_one_each(clients, streamed=True)
            for body, wanted in ((b"whole", b"whole"), (b"chunks", b"chunksmoremoremore")):
                last = Client(loop, handle, body)
                last.send()
                await settled([last])
                assert last.response().body == wanted
            assert await loop.run_in_executor(None, script.scheduler.stop, PATIENCE_S)
            assert (script.queue.waiting.rows, script.queue.running.requests()) == (0, [])
        finally:
            setattr(owner, name, original)

    asyncio.run(scenario())
