"""Half-closed connections: a client that has sent its last byte, and may still read, or may have left.

The end of the client's bytes looks the same in both cases. A client that has left answers any further byte with a
reset. So an interim response (``100 Continue``, which every HTTP/1.1 client skips) is sent if the response takes longer
than ``PROBE_S``. The state of the socket then shows which case it is.
"""

from __future__ import annotations

import socket
from typing import Any

PROBE_S = 0.25
"""Seconds without a response after which the client is probed."""

ECHO_S = 0.05
"""Seconds until the first look for the reset that follows a probe."""

CHECK_S = 0.5
"""Seconds between further looks."""

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
TCP_CLOSE = 7  # linux/tcp_states.h


def has_left(transport: Any) -> bool:
    """Whether the client has reset the connection. The event loop does not notice that after the end of its bytes."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE)
    except OSError:
        return True
