"""Listening sockets: one for one process, or one for each of several processes that share a port.

The kernel spreads new connections over the sockets that share a port by a hash of both addresses (SO_REUSEPORT). A
socket whose process has ended gets no more of them.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from ..errors import BadSetting

SHARE = getattr(socket, "SO_REUSEPORT", None)
ACCEPTS = 16
"""Connections that one turn of the event loop accepts."""


@contextlib.contextmanager
def listen(host: str, port: int, backlog: int) -> Iterator[socket.socket]:
    """A listening socket; ``::`` takes IPv4 too. Raises BadSetting when the address is taken or is not of this host."""
    with _bound(host, port) as sock:
        sock.listen(backlog)
        yield sock


@contextlib.contextmanager
def reserve(host: str, port: int, flag: str = "--port") -> Iterator[socket.socket]:
    """A bound socket that gets no connections. It keeps the port for :func:`share`, and from every other server.

    ``flag``: the option that the port comes from. Raises BadSetting as :func:`listen` does, and on systems where
    processes cannot share a port.
    """
    if SHARE is None:
        raise BadSetting("this system cannot share a port among processes; use --processes 1")
    with _bound(host, port, flag=flag) as sock:
        # Set after bind: before it, a second server would share the port instead of being refused.
        sock.setsockopt(socket.SOL_SOCKET, SHARE, 1)
        yield sock


@contextlib.contextmanager
def share(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket of one process at a reserved port. It gets its part of the connections once it listens."""
    with _bound(host, port, shared=True) as sock:
        yield sock


def often_accepted(sock: socket.socket) -> list[socket.socket]:
    """A socket and duplicates of it, for an event loop to listen on. The caller closes the duplicates.

    libuv accepts one connection for each descriptor in a turn. With one descriptor a thousand new connections wait for
    a thousand turns, which are long while other connections are busy.
    """
    return [sock, *(sock.dup() for _ in range(ACCEPTS - 1))]


def _bound(host: str, port: int, shared: bool = False, flag: str = "--port") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and SHARE is not None:
            sock.setsockopt(socket.SOL_SOCKET, SHARE, 1)
        if sock.family == socket.AF_INET6:
            both = host == "::" and socket.has_dualstack_ipv6()
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise BadSetting(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another {flag} or --host"
        ) from error
    return sock
