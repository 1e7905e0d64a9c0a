"""The runtime API over HTTP, as ``boto3.client("sagemaker-runtime", endpoint_url=...)`` speaks it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from . import eventstream
from .asynchronous import Asynchronous
from .call import NoAnswer, OpenAnswer
from .endpoint import Endpoint
from .headers import PREFIX
from .limits import INLINE_BYTES
from .refusal import Refusal, invalid

THREADS = 512
"""Requests at the same time, each of which waits in a thread."""

LOOK_S = 0.005

Handler = Callable[[Request], Awaitable[Response]]


class Runtime:
    """The three calls, for one endpoint; ``asynchronous`` None where it is not configured."""

    def __init__(self, endpoint: Endpoint, asynchronous: Asynchronous | None = None) -> None:
        self._endpoint = endpoint
        self._asynchronous = asynchronous

    def app(self) -> Starlette:
        calls = {
            "invocations": self._invoke,
            "invocations-response-stream": self._stream,
            "async-invocations": self._accept,
        }
        routes = [
            Route(f"/endpoints/{{name}}/{path}", _refusing(handle), methods=["POST"]) for path, handle in calls.items()
        ]
        return Starlette(routes=routes, lifespan=_lifespan)

    async def _invoke(self, request: Request) -> Response:
        self._endpoint.require(request.path_params["name"])
        body = await _read(request, self._endpoint.limits.payload_bytes)
        answer = await run_in_threadpool(self._endpoint.invoke, request.headers.items(), body)
        response = Response(answer.body)
        response.headers.update(answer.headers)
        return response

    async def _stream(self, request: Request) -> Response:
        self._endpoint.require(request.path_params["name"])
        body = await _read(request, self._endpoint.limits.payload_bytes)
        stack = ExitStack()
        headers, answer = await run_in_threadpool(
            stack.enter_context, self._endpoint.stream(request.headers.items(), body)
        )
        passed = {name: value for name, value in headers.items() if name != "content-type"}
        if "content-type" in headers:
            passed[PREFIX + "content-type"] = headers["content-type"]
        return StreamingResponse(_events(answer, stack), headers=passed, media_type=eventstream.MEDIA_TYPE)

    async def _accept(self, request: Request) -> Response:
        self._endpoint.require(request.path_params["name"])
        if self._asynchronous is None:
            raise invalid(f"Endpoint {self._endpoint.name} has no AsyncInferenceConfig; start it with --async-folder")
        # One byte more is enough to see that it is too much.
        body = await _read(request, INLINE_BYTES + 1)
        accepted = await run_in_threadpool(self._asynchronous.accept, request.headers.items(), body)
        locations = {PREFIX + "OutputLocation": accepted.output, PREFIX + "FailureLocation": accepted.failure}
        return JSONResponse({"InferenceId": accepted.inference_id}, 202, locations)


@contextmanager
def listening(runtime: Runtime, listener: socket.socket) -> Iterator[str]:
    """Serve in a thread of its own, which leaves signals to the main one. Gives the address once it answers.

    What is under way at the end is given up: the container gets its SIGTERM at once.
    """
    server = uvicorn.Server(
        uvicorn.Config(runtime.app(), log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="runtime-api")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise OSError("the runtime API did not start; the lines above say why")
            time.sleep(LOOK_S)
        host, port = listener.getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _refusing(handle: Handler) -> Handler:
    """The same with every Refusal as the document that clients read."""

    async def answered(request: Request) -> Response:
        try:
            return await handle(request)
        except Refusal as error:
            return Response(
                json.dumps(error.document()),
                error.status,
                {"x-amzn-ErrorType": error.kind, "content-type": "application/json"},
            )

    return answered


async def _read(request: Request, most: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > most:
            raise invalid(f"the payload may have {most} bytes, and has more")
        pieces.append(piece)
    return b"".join(pieces)


def _events(answer: OpenAnswer, stack: ExitStack) -> Iterator[bytes]:
    with stack:
        try:
            for piece in answer.pieces():
                yield eventstream.parts(piece)
        except NoAnswer as error:
            yield eventstream.broken("ModelInvocationTimeExceeded" if error.late else "StreamBroken", str(error))


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
