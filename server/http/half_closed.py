"""Half-closed connections: a client that has sent its last byte, and may still read, or may have left.

The end of the client's bytes looks the same in both cases. For a client on this machine the kernel knows which it is. A
client elsewhere that has left answers any further byte with a reset. So an interim response (``100 Continue``, which
every HTTP/1.1 client skips) is sent if the response takes longer than ``PROBE_S``. The state of the socket then shows
the reset.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from ..system.peers import holds_socket

PROBE_S = 0.25
"""Seconds without a response after which a client elsewhere is probed."""

SOON_S = 0.01
"""Seconds until the second look: a client's last byte may arrive just before its socket is given up, or the reset."""

CHECK_S = 0.5
"""Seconds between further looks."""

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
TCP_CLOSE = 7  # linux/tcp_states.h


LINGER_S = 2.0
"""How long a client may go on sending before its connection is closed, so that it can read the response."""


def close_after_reading(transport: Any, loop: Any) -> None:
    """Close the connection of a client that is still sending. If it were closed at once, the kernel would answer the
    unread bytes with a reset, and the client might lose the response."""
    if transport.can_write_eof():
        transport.write_eof()
        loop.call_later(LINGER_S, transport.close)
    else:
        transport.close()


class ColdTransport:
    """The transport as a cold request sees it: ``close`` is the connection's own."""

    __slots__ = ("_transport", "close")

    def __init__(self, transport: Any, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HalfClosed:
    """Looks after one connection whose client has sent its last byte, until it is closed."""

    def __init__(self, transport: Any, loop: Any, may_probe: Callable[[], bool]) -> None:
        """``may_probe``: whether no part of the response has been sent, and the client speaks HTTP/1.1."""
        self._transport = transport
        self._loop = loop
        self._may_probe = may_probe
        self._probe_due = True

    def has_left(self) -> bool:
        """Whether the client is known to have left."""
        return has_reset(self._transport) or self._held() is False

    def look_after(self) -> None:
        """Begin to look for the client from time to time."""
        self._loop.call_later(SOON_S, self._look, False)

    def _look(self, probe: bool) -> None:
        """``probe``: the client has waited for long enough to be probed."""
        if self._transport.is_closing():
            return
        held = self._held()
        if held is False or has_reset(self._transport):
            self._transport.abort()  # as if the client had reset the connection: its request is not run any more
            return
        following_s = CHECK_S
        if held is None and self._probe_due:
            following_s = PROBE_S
            if probe:
                self._probe_due = False
                following_s = SOON_S
                if self._may_probe():
                    self._transport.write(INTERIM)
        self._loop.call_later(following_s, self._look, True)

    def _held(self) -> bool | None:
        client, server = (self._transport.get_extra_info(name) for name in ("peername", "sockname"))
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        return holds_socket(client[:2], server[:2], sock.family)


def has_reset(transport: Any) -> bool:
    """Whether the client has reset the connection. The event loop does not notice that after the end of its bytes."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE)
    except OSError:
        return True
