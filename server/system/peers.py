"""The other ends of TCP connections: whether a client on this machine still holds its socket.

Linux tells it for sockets of the same network namespace (sock_diag(7)), without privileges.
"""

from __future__ import annotations

import socket
import struct

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20  # linux/netlink.h, linux/sock_diag.h
NLM_F_REQUEST, NLMSG_ERROR = 1, 2  # linux/netlink.h
ALL_STATES, ANY_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
HEADER = struct.Struct("=IHHII")
INODE_AT = HEADER.size + 68  # of idiag_inode in struct inet_diag_msg, linux/inet_diag.h
TIMEOUT_S = 0.1

Address = tuple[str, int]


def holds_socket(client: Address, server: Address, family: int) -> bool | None:
    """Whether a process holds the client's socket; None where the client is not on this machine, or not known."""
    addresses = [socket.inet_pton(family, host).ljust(16, b"\0") for host, _ in (client, server)]
    identity = struct.pack("!HH", client[1], server[1]) + b"".join(addresses)
    identity += struct.pack("=III", 0, ANY_COOKIE, ANY_COOKIE)
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, ALL_STATES) + identity
    message = HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + request
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
            diag.settimeout(TIMEOUT_S)
            diag.send(message)
            answer = diag.recv(4_096)
    except OSError:
        return None
    if len(answer) < INODE_AT + 4 or HEADER.unpack_from(answer)[1] == NLMSG_ERROR:
        return None
    return bool(struct.unpack_from("=I", answer, INODE_AT)[0])
