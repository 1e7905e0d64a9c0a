"""The stream: what a connection knows about one call, and who gets its bytes."""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Receiver(Protocol):
    """Takes what arrives on one stream."""

    def data(self, data: bytes, begin: int, end: int, last: bool) -> None:
        """Bytes of messages, ``data[begin:end]``. ``last``: nothing follows."""
        ...

    def drained(self) -> None:
        """Everything that was to be sent has left."""
        ...

    def slow(self, arrived_bytes: int, least_bytes: float, before_ns: int) -> None:
        """Refuse the call if a message of it is arriving since ``before_ns`` or longer, and fewer than ``least_bytes``
        have come since this was last asked. ``arrived_bytes``: of a frame that has not arrived in full."""
        ...

    def leave(self) -> None:
        """The server is draining."""
        ...

    def closed(self) -> None:
        """The stream has ended, with its response or without. Called once."""
        ...


class Stream:
    """One stream that is open in at least one direction. ``receiver`` is set once, before anything else is called.

    ``unsent`` are pieces of messages that wait for a window, and ``trailers`` what follows them. ``hungry`` says
    whether more than the first window may be received.
    """

    __slots__ = (
        *("begun", "hungry", "number", "over", "receive_window", "receiver", "remote_open", "send_window", "trailers"),
        *("unsent", "waiting"),
    )

    receiver: Receiver

    def __init__(self, number: int, receive_window: int, send_window: int, remote_open: bool) -> None:
        self.number = number
        self.receive_window = receive_window
        self.send_window = send_window
        self.remote_open = remote_open
        self.hungry = True
        self.over = False  # nothing more can be sent on it
        # Sending
        self.begun = False  # its header fields are sent
        self.waiting = False  # it is in the queue of the connection
        self.unsent: deque[memoryview] = deque()
        self.trailers: bytes | None = None
