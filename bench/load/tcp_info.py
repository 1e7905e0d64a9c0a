"""What the kernel of Linux tells of a TCP connection: ``struct tcp_info`` of linux/tcp.h."""

from __future__ import annotations

import socket
import struct

RESENT = struct.Struct("100xI")
"""``tcpi_total_retrans``, behind eight bytes and 23 other numbers."""
RATE = struct.Struct("148xI8xQ")
"""``tcpi_min_rtt`` in us and ``tcpi_delivery_rate`` in bytes/s, since Linux 4.9."""


def resent(connection: socket.socket) -> int | None:
    """TCP segments that this connection sent again; None where the kernel does not tell."""
    found = _read(connection, RESENT)
    return None if found is None else found[0]


def upload_ms(connection: socket.socket, size_bytes: int) -> float | None:
    """The time that so many bytes need on the link by the rate at which TCP delivered them, without the round trip that
    any request needs; None where the kernel does not tell."""
    found = _read(connection, RATE)
    if found is None or not found[1]:
        return None
    rtt_us, rate = found
    return max(size_bytes / rate * 1e3 - rtt_us / 1e3, 0.0)


def _read(connection: socket.socket, form: struct.Struct) -> tuple[int, ...] | None:
    try:
        return form.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, form.size))
    except (AttributeError, OSError, struct.error):  # another system, or an older kernel
        return None
