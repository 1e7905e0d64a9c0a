"""The channel between the server and a worker process: small bodies inside the socket, large ones as memory files.

A memory file (``memfd_create``) belongs to nobody's file system: it does not count against ``/dev/shm``, which is 64 MB
on hosted endpoints, and is gone when both sides have closed it. Its descriptor travels with SCM_RIGHTS. Nothing is
pickled: a message is a JSON document and byte strings.
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
from .call import BY_CODE, Answer, Call, Elsewhere, Session

HEAD = struct.Struct("<IQ?")
"""Length of the document, length of the blobs together, and whether these are in a memory file."""

INLINE_BYTES = 65_536
"""Blobs up to this size together go through the socket: below it that is faster than a file."""

LONGEST_DOCUMENT = 64_000_000

Message = tuple[Any, list[bytes]]


class Broken(Exception):
    """The other side is gone, or says what makes no sense. ``unread``: it has surely not read what was sent last."""

    def __init__(self, message: str, unread: bool = False) -> None:
        super().__init__(message)
        self.unread = unread


class Channel:
    """One end. Owned by one thread at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def send(self, document: Any, blobs: Sequence[bytes] = ()) -> None:
        """Raises Broken when nobody is there to read it."""
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
            raise Broken(f"nobody reads: {error.strerror}", unread=True) from error

    def receive(self, timeout_s: float | None = None) -> Message:
        """The next message. Raises TimeoutError when it takes longer, or Broken."""
        self._socket.settimeout(timeout_s)
        descriptors: list[int] = []
        try:
            head, descriptors, _, _ = socket.recv_fds(self._socket, HEAD.size, 1, socket.MSG_CMSG_CLOEXEC)
            if not head:
                raise Broken("the other side is gone")
            head += self._exactly(HEAD.size - len(head))
            length, size, filed = HEAD.unpack(head)
            if length > LONGEST_DOCUMENT or (filed and not descriptors) or (not filed and size > INLINE_BYTES):
                raise Broken("a message makes no sense")
            message = orjson.loads(self._exactly(length))
            payload = _contents(descriptors[0], size) if filed else self._exactly(size)
            return message["document"], _cut(payload, message["sizes"])
        except ConnectionResetError as error:
            raise Broken("the other side is gone and had not read everything", unread=True) from error
        except (ValueError, KeyError, TypeError) as error:
            raise Broken("a message makes no sense") from error
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
                raise Broken("the other side went in the middle of a message")
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
        raise Broken("a memory file has another size than was said")
    parts, at = [], 0
    while at < size:
        part = os.pread(descriptor, size - at, at)
        if not part:
            raise Broken("a memory file became shorter")
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _cut(payload: bytes, sizes: list[int]) -> list[bytes]:
    if sum(sizes) != len(payload) or any(size < 0 for size in sizes):
        raise Broken("a message makes no sense")
    if len(sizes) == 1:
        return [payload]
    blobs, at = [], 0
    for size in sizes:
        blobs.append(payload[at : at + size])
        at += size
    return blobs


def calls_out(calls: Sequence[Call]) -> tuple[Any, list[bytes]]:
    """Calls as a message."""
    rows = [
        {
            "content_type": call.content_type,
            "accept": call.accept,
            "charset": call.charset,
            "request_id": call.request_id,
            "headers": _headers_out(call.headers),
            "session": None if call.session is None else call.session.id,
        }
        for call in calls
    ]
    return rows, [call.body for call in calls]


def calls_in(message: Message, session_of: Callable[[str], Session]) -> list[Call]:
    """``session_of``: the session of an id, as it lives in this process."""
    rows, blobs = message
    return [
        Call(
            body,
            row["content_type"],
            row["accept"],
            _headers_in(row["headers"]),
            row["request_id"],
            row["charset"],
            session=None if row["session"] is None else session_of(row["session"]),
        )
        for row, body in zip(rows, blobs, strict=True)
    ]


def answers_out(answers: Sequence[Answer]) -> tuple[Any, list[bytes]]:
    """Answers as a message."""
    rows = [
        {
            "content_type": answer.content_type,
            "status": answer.status,
            "headers": _headers_out(answer.headers),
            "error": None if answer.error is None else error_out(answer.error),
            "decode_ns": answer.decode_ns,
            "encode_ns": answer.encode_ns,
            "more": answer.pieces is not None,
        }
        for answer in answers
    ]
    return {"answers": rows}, [answer.body for answer in answers]


def answers_in(message: Message) -> list[Answer]:
    """Raises the error that several calls ended in together, or Broken."""
    document, blobs = message
    try:
        if "raised" in document:
            raise error_in(document["raised"])
        return [
            Answer(
                body,
                str(row["content_type"]),
                int(row["status"]),
                _headers_in(row["headers"]),
                None if row["error"] is None else error_in(row["error"]),
                int(row["decode_ns"]),
                int(row["encode_ns"]),
                Elsewhere() if row["more"] else None,
            )
            for row, body in zip(document["answers"], blobs, strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise Broken("an answer makes no sense") from error


def error_out(error: BaseException) -> list[str]:
    if isinstance(error, SlipwayError) and error.code in BY_CODE:
        return [error.code, str(error).encode(errors="replace").decode()]
    kind = ModelFailed if not isinstance(error, MemoryError) else BY_CODE["out_of_memory"]
    return [kind.code, f"the script raised {type(error).__name__}; the server's log has the details"]


def error_in(pair: list[str]) -> SlipwayError:
    return BY_CODE[pair[0]](pair[1])


def _headers_out(headers: Sequence[tuple[bytes, bytes]]) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]


def _headers_in(pairs: Sequence[Sequence[str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
