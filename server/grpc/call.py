"""The call: one gRPC call as the protocols' handlers see a request, with a head and a responder."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

import grpc
import orjson

from ..protocols.request_options import DEADLINE
from ..protocols.responder import NO_HEADERS, Source
from ..request import Head, Headers
from .codes import code_of, trailing

log = logging.getLogger("slipway.grpc")

LEAST_MS = 0.001
OK = 200

T = TypeVar("T")


class Reply:
    """The responder of one request. ``sent`` is done when the response is there.

    ``status`` is HTTP's. ``body`` is a serialized message, or JSON: a document, or an error.
    """

    __slots__ = ("body", "headers", "sent", "status")

    def __init__(self) -> None:
        self.sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.body = b""
        self.headers: Headers = NO_HEADERS

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:  # noqa: ARG002
        self.status, self.body, self.headers = status, body, headers
        if not self.sent.done():  # else the call was cancelled
            self.sent.set_result(None)

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> None:  # noqa: ARG002
        """Responses are sent whole."""
        return

    def problem(self) -> str:
        """The message of an error."""
        return str(orjson.loads(self.body)["error"])


def head_of(path: bytes, context: Any, begun_ns: int, method: bytes = b"POST") -> Head:
    """The head of a call: its metadata as headers, and the time that it has left as a deadline.

    The host is this machine: a listener on a loopback address has no other callers, and browsers have no way to it.
    """
    headers: Headers = [(b"host", b"localhost"), *metadata_of(context)]
    left_s = context.time_remaining()
    if left_s is not None:
        headers.append((DEADLINE, b"%.3f" % max(left_s * 1e3, LEAST_MS)))
    return Head(method, path, headers, begun_ns, begun_ns)


def metadata_of(context: Any) -> Headers:
    """The metadata of a call as headers."""
    return [
        (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
        for name, value in context.invocation_metadata()
    ]


async def refuse(context: Any, reply: Reply) -> NoReturn:
    """End a call with the error of a reply. Raises grpc's own error, which the handler passes on."""
    await context.abort(code_of(reply.status), reply.problem(), trailing(reply.headers))
    raise AssertionError("abort has raised")


async def guarded(context: Any, work: Awaitable[T]) -> T:
    """The result of ``work``. Of an error that nobody expected the log has the details, and the client gets none."""
    try:
        return await work
    except grpc.aio.AbortError:
        raise
    except Exception:
        log.exception("a call failed")
    await context.abort(grpc.StatusCode.INTERNAL, "the server failed; its log has the details")
    raise AssertionError("abort has raised")
