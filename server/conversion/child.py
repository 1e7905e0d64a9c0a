"""The main program of the conversion process: calls one function after the other, with a limit of memory for each."""

from __future__ import annotations

import ctypes
import gc
import resource
import signal
import socket
from pathlib import Path

from ..codecs import media
from ..errors import BodyTooLarge, SlipwayError
from ..ragged import OBJECT_BYTES, held_bytes
from ..request import Payload
from ..system import orphans
from .message import Closed, receive, send

KEPT = 8
"""The share of the memory of a conversion that its result may have is one divided by this."""


def main(descriptor: int) -> int:
    """Serve the socket at this descriptor until the server closes it. Returns the exit code."""
    system = ctypes.CDLL(None, use_errno=True)
    orphans.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server closes the socket
    end = socket.socket(fileno=descriptor)
    gc.disable()  # millions of numbers and lists are freed by their counts; looking through them takes seconds
    assert media.CODECS  # imported before the first request, and before memory is limited
    while True:
        try:
            end_of(end)
            system.malloc_trim(0)  # what one body took must not count against the next one
        except Closed:
            return 0


def end_of(end: socket.socket) -> None:
    """Receive one call, make it, and send its end: a result, or an error and the traceback of an unexpected one."""
    function, limit_bytes, *args = receive(end)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    own_bytes = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own_bytes + limit_bytes, most))
    try:
        result = function(*args)
        if isinstance(result, Payload):
            check_size(result, limit_bytes // KEPT)
        reply = [None, *result] if type(result) is tuple else [None, result]
    except SlipwayError as error:
        reply = [error]
    except MemoryError:
        reply = [
            BodyTooLarge(
                f"reading or writing this body needs more than {limit_bytes / 1e6:.0f} MB; send less at a time"
            )
        ]
    except BaseException as error:  # noqa: BLE001 - the server logs it and answers
        reply = [RuntimeError(f"{type(error).__name__}: {error}"[:1_000])]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    send(end, reply)


def check_size(payload: Payload, limit_bytes: int) -> None:
    """Raises BodyTooLarge if the arrays of a payload take more memory than this in the server."""
    objects = sum(array.size for array in payload.arrays if array.dtype.kind == "O")
    if held_bytes(payload.arrays) + OBJECT_BYTES * objects > limit_bytes:
        raise BodyTooLarge(f"the values of this body take more than {limit_bytes / 1e6:.0f} MB; send less at a time")
