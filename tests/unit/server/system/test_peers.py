"""Clients on this machine: half-closed, gone, or elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from server.system.descriptors import RESERVED, connections_allowed
from server.system.peers import holds_socket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(client, server) of one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted


def known(server: socket.socket, client: tuple[str, int]) -> bool | None:
    return holds_socket(client, server.getsockname(), socket.AF_INET)


def test_a_client_that_may_still_read_is_told_from_one_that_left(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    name = client.getsockname()
    if known(server, name) is None:
        pytest.skip("the kernel has no sock_diag")
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    assert known(server, name) is True
    client.close()
    assert known(server, name) is False


def test_a_client_elsewhere_is_not_known(pair: tuple[socket.socket, socket.socket]) -> None:
    assert known(pair[1], ("203.0.113.7", 4_444)) is None


@pytest.mark.parametrize(
    ("soft", "wanted", "allowed"), [(1_024, 100, 100), (1_024, 4_096, 1_024 - RESERVED), (100, 4_096, 50), (-1, 9, 9)]
)
def test_connections_leave_descriptors_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, soft: int, wanted: int, allowed: int
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (soft, soft))
    assert connections_allowed(wanted) == allowed
