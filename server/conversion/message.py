"""Messages between the server and its conversion process: a pickle, and large values beside it in a memory file.

Both ends are this program's own code. Nothing that a client has sent is unpickled: its bytes travel as values. Arrays
are received as views of the memory file, without a copy. Text comes in pieces, so that no single call that makes
thousands of objects holds the interpreter for long.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..tensors import Array

HEAD = struct.Struct("<QQ")
"""Bytes of the pickle, and number of values beside it."""

VALUE = struct.Struct("<QQ?")
"""Begin and size of a value in the memory file, and whether it is bytes (else it is the content of an array)."""

BESIDE_BYTES = 65_536
"""Bytes objects from this size on travel in the memory file."""

PIECE = 5_000
"""Elements of an array of objects that are read at a time."""

ALIGNMENT = 64


class Closed(Exception):
    """The other end has closed."""


def send(end: socket.socket, values: Sequence[Any]) -> None:
    """Send values, of which large bytes travel beside the pickle. Raises Closed."""
    beside: list[pickle.PickleBuffer] = []
    text = _dumped([_beside(value) for value in values], beside)
    views = [one.raw() for one in beside]
    try:
        with _memory_file(views) as (descriptor, table):
            head = HEAD.pack(len(text), len(views))
            sent = socket.send_fds(end, [head], [descriptor])
            end.sendall(b"".join((head[sent:], table, text)))
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed(error.strerror) from error


def receive(end: socket.socket) -> list[Any]:
    """The values of the next message. Raises Closed, or TimeoutError by the socket's timeout."""
    descriptors: list[int] = []
    try:
        head, descriptors, _, _ = socket.recv_fds(end, HEAD.size, 1, socket.MSG_CMSG_CLOEXEC)
        if not head:
            raise Closed("the other end has closed")
        length, count = HEAD.unpack(head + _exactly(end, HEAD.size - len(head)))
        table = list(VALUE.iter_unpack(_exactly(end, count * VALUE.size)))
        text = _exactly(end, length)
        values: list[Any] = pickle.loads(text, buffers=_values(descriptors[0], table))  # noqa: S301 - our own process
        return values
    except ConnectionError as error:
        raise Closed("the other end has closed") from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class Pickler(pickle.Pickler):
    """Writes arrays of objects in pieces. Other arrays travel beside the pickle."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype.kind == "O":
            flat = value.reshape(-1)
            pieces = [
                pickle.PickleBuffer(pickle.dumps(flat[begin : begin + PIECE].tolist(), 5))
                for begin in range(0, len(flat), PIECE)
            ]
            return joined, (value.shape, pieces)
        return NotImplemented


def joined(shape: tuple[int, ...], pieces: Sequence[bytes]) -> Array:
    """The array of objects of these pieces."""
    flat = np.empty(int(np.prod(shape, dtype=np.int64)), object)
    for index, piece in enumerate(pieces):
        values = pickle.loads(piece)  # noqa: S301 - our own process
        for place, value in enumerate(values, index * PIECE):
            flat[place] = value
    return flat.reshape(shape)


def _dumped(values: list[Any], beside: list[pickle.PickleBuffer]) -> bytes:
    import io

    file = io.BytesIO()
    Pickler(file, 5, buffer_callback=beside.append).dump(values)
    return file.getvalue()


def _beside(value: Any) -> Any:
    return pickle.PickleBuffer(value) if type(value) is bytes and len(value) >= BESIDE_BYTES else value


@contextlib.contextmanager
def _memory_file(views: Sequence[memoryview]) -> Iterator[tuple[int, bytes]]:
    """A memory file with these values, and the table that says where they are."""
    descriptor = os.memfd_create("slipway-values", os.MFD_CLOEXEC)
    try:
        table, at = [], 0
        for view in views:
            table.append(VALUE.pack(at, view.nbytes, isinstance(view.obj, bytes)))
            done = 0
            while done < view.nbytes:
                done += os.pwrite(descriptor, view[done:], at + done)
            at += -(-view.nbytes // ALIGNMENT) * ALIGNMENT
        os.ftruncate(descriptor, at)
        yield descriptor, b"".join(table)
    finally:
        os.close(descriptor)


def _values(descriptor: int, table: Sequence[tuple[int, int, bool]]) -> Iterator[Any]:
    size = os.fstat(descriptor).st_size
    whole = memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ) if size else b"")
    for begin, length, is_bytes in table:
        yield _read(descriptor, begin, length) if is_bytes else whole[begin : begin + length]


def _read(descriptor: int, begin: int, length: int) -> bytes:
    part = os.pread(descriptor, length, begin)
    while len(part) < length:  # the kernel reads at most 2 GB at a time
        part += os.pread(descriptor, length - len(part), begin + len(part))
    return part


def _exactly(end: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = end.recv(min(size, 1 << 20))
        if not part:
            raise Closed("the other end closed in the middle of a message")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
