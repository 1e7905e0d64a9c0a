"""The channel between the server and a worker process: small bodies travel in the socket, large ones as memory files.

A memory file (``memfd_create``) belongs to no file system. It does not count against ``/dev/shm``, which has 64 MB on
hosted endpoints, and the kernel frees it when both sides have closed it. Its descriptor travels with SCM_RIGHTS.
Nothing is pickled: a message is a JSON document and byte strings.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from ..errors import ModelFailed, SlipwayError
from .call import BY_CODE, Call, RemoteChunks, ScriptResponse, StatefulSession

HEAD = struct.Struct("<IQ?")
"""Length of the document, total length of the blobs, and whether the blobs are in a memory file."""

INLINE_BYTES = 65_536
"""Total blob size up to which the socket is faster than a memory file."""

MAX_DOCUMENT_BYTES = 64_000_000

Message = tuple[Any, list[bytes]]


class ChannelBroken(Exception):
    """The other side has closed the channel or sent an invalid message.

    ``unread`` is True if the other side certainly did not read the last message.
    """

    def __init__(self, message: str, unread: bool = False) -> None:
        super().__init__(message)
        self.unread = unread


class Channel:
    """One end of the channel. One thread at a time may use it."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def send(self, document: Any, blobs: Sequence[bytes] = ()) -> None:
        """Send one message. Raises ChannelBroken if the other side is closed."""
        text = orjson.dumps({"document": document, "sizes": [len(blob) for blob in blobs]})
        length = sum(len(blob) for blob in blobs)
        inline = length <= INLINE_BYTES
        head = HEAD.pack(len(text), length, not inline)
        try:
            if inline:
                self._socket.sendall(b"".join((head, text, *blobs)))
                return
            with _memory_file(blobs) as descriptor:
                sent = socket.send_fds(self._socket, [head], [descriptor])
            self._socket.sendall(head[sent:] + text)
        except TimeoutError:
            raise
        except OSError as error:
            raise ChannelBroken(f"the other side is closed: {error.strerror}", unread=True) from error

    def receive(self, timeout_s: float | None = None) -> Message:
        """Wait for the next message. Raises TimeoutError after ``timeout_s`` seconds, or ChannelBroken."""
        self._socket.settimeout(timeout_s)
        descriptors: list[int] = []
        try:
            head, descriptors, _, _ = socket.recv_fds(self._socket, HEAD.size, 1, socket.MSG_CMSG_CLOEXEC)
            if not head:
                raise ChannelBroken("the other side is closed")
            head += self._exactly(HEAD.size - len(head))
            length, size, filed = HEAD.unpack(head)
            if length > MAX_DOCUMENT_BYTES or (filed and not descriptors) or (not filed and size > INLINE_BYTES):
                raise ChannelBroken("a message is invalid")
            message = orjson.loads(self._exactly(length))
            payload = _contents(descriptors[0], size) if filed else self._exactly(size)
            return message["document"], _cut(payload, message["sizes"])
        except ConnectionResetError as error:
            raise ChannelBroken("the other side closed before it had read everything", unread=True) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ChannelBroken("a message is invalid") from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._socket.recv(min(size, 1 << 20))
            if not part:
                raise ChannelBroken("the other side closed in the middle of a message")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


@contextlib.contextmanager
def _memory_file(blobs: Sequence[bytes]) -> Any:
    descriptor = os.memfd_create("slipway-bodies", os.MFD_CLOEXEC)
    try:
        for blob in blobs:
            rest = memoryview(blob)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        yield descriptor
    finally:
        os.close(descriptor)


def _contents(descriptor: int, size: int) -> bytes:
    if os.fstat(descriptor).st_size != size:
        raise ChannelBroken("a memory file does not have the announced size")
    parts, at = [], 0
    while at < size:
        part = os.pread(descriptor, size - at, at)
        if not part:
            raise ChannelBroken("a memory file was truncated")
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _cut(payload: bytes, sizes: list[int]) -> list[bytes]:
    if sum(sizes) != len(payload) or any(size < 0 for size in sizes):
        raise ChannelBroken("a message is invalid")
    if len(sizes) == 1:
        return [payload]
    blobs, at = [], 0
    for size in sizes:
        blobs.append(payload[at : at + size])
        at += size
    return blobs


def encode_calls(calls: Sequence[Call]) -> tuple[Any, list[bytes]]:
    """The message that carries calls to a worker."""
    rows = [
        {
            "content_type": call.content_type,
            "accept": call.accept,
            "charset": call.charset,
            "request_id": call.request_id,
            "headers": _encode_headers(call.headers),
            "session": None if call.session is None else call.session.id,
        }
        for call in calls
    ]
    return rows, [call.body for call in calls]


def decode_calls(message: Message, session_of: Callable[[str], StatefulSession]) -> list[Call]:
    """The calls of a message. ``session_of`` returns this process's stateful session of an id."""
    rows, blobs = message
    return [
        Call(
            body,
            row["content_type"],
            row["accept"],
            _decode_headers(row["headers"]),
            row["request_id"],
            row["charset"],
            session=None if row["session"] is None else session_of(row["session"]),
        )
        for row, body in zip(rows, blobs, strict=True)
    ]


def encode_responses(responses: Sequence[ScriptResponse]) -> tuple[Any, list[bytes]]:
    """The message that carries responses to the server."""
    rows = [
        {
            "content_type": response.content_type,
            "status": response.status,
            "headers": _encode_headers(response.headers),
            "error": None if response.error is None else encode_error(response.error),
            "decode_ns": response.decode_ns,
            "encode_ns": response.encode_ns,
            "more": response.chunks is not None,
        }
        for response in responses
    ]
    return {"answers": rows}, [response.body for response in responses]


def decode_responses(message: Message) -> list[ScriptResponse]:
    """The responses of a message. Raises the error that all calls of the run share, or ChannelBroken."""
    document, blobs = message
    try:
        if "raised" in document:
            raise decode_error(document["raised"])
        return [
            ScriptResponse(
                body,
                str(row["content_type"]),
                int(row["status"]),
                _decode_headers(row["headers"]),
                None if row["error"] is None else decode_error(row["error"]),
                int(row["decode_ns"]),
                int(row["encode_ns"]),
                RemoteChunks() if row["more"] else None,
            )
            for row, body in zip(document["answers"], blobs, strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ChannelBroken("a response is invalid") from error


def encode_error(error: BaseException) -> list[str]:
    """Code and message of an error; an error that is not ours becomes ModelFailed or OutOfMemory."""
    if isinstance(error, SlipwayError) and error.code in BY_CODE:
        return [error.code, str(error).encode(errors="replace").decode()]
    kind = ModelFailed if not isinstance(error, MemoryError) else BY_CODE["out_of_memory"]
    return [kind.code, f"the script raised {type(error).__name__}; the server's log has the details"]


def decode_error(pair: list[str]) -> SlipwayError:
    """The error of a code and a message."""
    return BY_CODE[pair[0]](pair[1])


def _encode_headers(headers: Sequence[tuple[bytes, bytes]]) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]


def _decode_headers(pairs: Sequence[Sequence[str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
