"""The runtime API over HTTP, for ``boto3.client("sagemaker-runtime", endpoint_url=...)``."""

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
from .api_error import ApiError, invalid
from .asynchronous import AsyncInvocations
from .attributes import PREFIX
from .call import NoResponse, OpenResponse
from .endpoint import Endpoint
from .limits import INLINE_BYTES

THREADS = 512
"""Concurrent requests; each waits in a thread."""

POLL_S = 0.005

Handler = Callable[[Request], Awaitable[Response]]


class Runtime:
    """The three invoke operations of one endpoint; ``asynchronous`` None: not configured."""

    def __init__(self, endpoint: Endpoint, asynchronous: AsyncInvocations | None = None) -> None:
        self.endpoint = endpoint
        """Serves the next request. An update replaces it; requests under way stay with the one before."""
        self.asynchronous = asynchronous

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
        self.endpoint.require(request.path_params["name"])
        body = await _read(request, self.endpoint.limits.payload_bytes)
        answer = await run_in_threadpool(self.endpoint.invoke, request.headers.items(), body)
        response = Response(answer.body)
        response.headers.update(answer.headers)
        return response

    async def _stream(self, request: Request) -> Response:
        self.endpoint.require(request.path_params["name"])
        body = await _read(request, self.endpoint.limits.payload_bytes)
        stack = ExitStack()
        headers, answer = await run_in_threadpool(
            stack.enter_context, self.endpoint.stream(request.headers.items(), body)
        )
        passed = {name: value for name, value in headers.items() if name != "content-type"}
        if "content-type" in headers:
            passed[PREFIX + "content-type"] = headers["content-type"]
        return StreamingResponse(_events(answer, stack), headers=passed, media_type=eventstream.MEDIA_TYPE)

    async def _accept(self, request: Request) -> Response:
        self.endpoint.require(request.path_params["name"])
        if self.asynchronous is None:
            raise invalid(f"Endpoint {self.endpoint.name} has no AsyncInferenceConfig")
        # One byte above the limit shows that the body is too large.
        body = await _read(request, INLINE_BYTES + 1)
        accepted = await run_in_threadpool(self.asynchronous.accept, request.headers.items(), body)
        locations = {PREFIX + "OutputLocation": accepted.output, PREFIX + "FailureLocation": accepted.failure}
        return JSONResponse({"InferenceId": accepted.inference_id}, 202, locations)


@contextmanager
def listening(runtime: Runtime, listener: socket.socket) -> Iterator[str]:
    """Serve in a thread, which leaves signals to the main thread. Yields the base URL once the API responds.

    Requests under way at the end are cancelled: the container gets its SIGTERM at once.
    """
    server = uvicorn.Server(
        uvicorn.Config(runtime.app(), log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="runtime-api")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise OSError("the runtime API did not start; read the lines above")
            time.sleep(POLL_S)
        host, port = listener.getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _refusing(handle: Handler) -> Handler:
    """The same handler with every ApiError as the error document that clients read."""

    async def answered(request: Request) -> Response:
        try:
            return await handle(request)
        except ApiError as error:
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
            raise invalid(f"the payload is larger than {most} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _events(answer: OpenResponse, stack: ExitStack) -> Iterator[bytes]:
    with stack:
        try:
            for chunk in answer.chunks():
                yield eventstream.payload_parts(chunk)
        except NoResponse as error:
            yield eventstream.stream_error("ModelInvocationTimeExceeded" if error.late else "StreamBroken", str(error))


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
