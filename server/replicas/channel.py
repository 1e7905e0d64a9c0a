"""The channel between the supervisor and a replica: calls and notices in both directions over one socket.

A message is its length (4 bytes, little-endian) and a JSON document. Both sides run an event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson

from .. import errors
from ..errors import Overloaded, SlipwayError

log = logging.getLogger("slipway.replicas")

LENGTH = struct.Struct("<I")

Handler = Callable[[str, Any], Awaitable[Any]]
"""Called with the name and the argument of a call or a notice; its result is the reply of a call."""


class ChannelClosed(Exception):
    """The process at the other end has ended."""


class Channel:
    """One end. ``handle`` runs in a task of its own for each message, so that calls may cross."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, end: socket.socket) -> None:
        """Take over this end of a socket pair. Messages wait in it until :meth:`serve` is called."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=end)

    async def serve(self) -> None:
        """Handle messages until the other side closes."""
        assert self._reader is not None
        try:
            while True:
                (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
                self._received(orjson.loads(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.close()

    def close(self) -> None:
        """End all calls that wait for a reply."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ChannelClosed)
        self._waiting.clear()

    async def call(self, name: str, argument: Any = None) -> Any:
        """The reply. Raises the error of ours that the other side raised, or ChannelClosed."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send({"call": name, "number": number, "argument": argument})
            return await future
        finally:
            self._waiting.pop(number, None)

    def tell(self, name: str, argument: Any = None) -> bool:
        """Send a notice, which has no reply. Returns whether it was sent: the channel is open."""
        with contextlib.suppress(ChannelClosed):
            self._send({"call": name, "argument": argument})
            return True
        return False

    def _send(self, document: dict[str, Any]) -> None:
        if self._writer is None or self._writer.is_closing():
            raise ChannelClosed
        text = orjson.dumps(document)
        self._writer.write(LENGTH.pack(len(text)) + text)

    def _received(self, message: dict[str, Any]) -> None:
        if "call" in message:
            task = asyncio.ensure_future(self._answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        future = self._waiting.get(message["number"])
        if future is None or future.done():
            return  # its caller has given up
        if "error" in message:
            future.set_exception(decode_error(message["error"]))
        else:
            future.set_result(message["reply"])

    async def _answer(self, message: dict[str, Any]) -> None:
        number = message.get("number")
        document: dict[str, Any] = {"number": number}
        try:
            document["reply"] = await self._handle(message["call"], message["argument"])
        except ChannelClosed:
            document["error"] = encode_error(errors.NotReady("a process of the server ended meanwhile; retry"))
        except Exception as error:
            if not isinstance(error, SlipwayError):
                log.exception("a message failed name=%s", message["call"])
            document["error"] = encode_error(error)
        if number is not None:
            with contextlib.suppress(ChannelClosed):
                self._send(document)


def _kinds(root: type[SlipwayError]) -> Iterator[type[SlipwayError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


BY_CODE = {kind.code: kind for kind in _kinds(SlipwayError) if kind.__module__ == errors.__name__}


def encode_error(error: Exception) -> dict[str, Any]:
    """Code and message of an error; one that is not ours becomes SlipwayError."""
    if not isinstance(error, SlipwayError) or error.code not in BY_CODE:
        return {"code": SlipwayError.code, "text": "the server failed; its log has the details"}
    text = str(error).encode(errors="replace").decode()
    wait_s = error.retry_after_s if isinstance(error, Overloaded) else 0
    return {"code": error.code, "text": text, "retry_after_s": wait_s}


def decode_error(document: dict[str, Any]) -> SlipwayError:
    """The error of a document that :func:`encode_error` made."""
    kind = BY_CODE[document["code"]]
    if issubclass(kind, Overloaded):
        return kind(document["text"], document["retry_after_s"])
    return kind(document["text"])
