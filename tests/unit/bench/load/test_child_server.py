"""Servers of the bench's own: there while their block runs, and honest when they cannot start."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from bench.errors import Unusable
from bench.load.child_server import child_server


def test_it_answers_inside_its_block_and_is_gone_after_it() -> None:
    with child_server("bench.load.echo_server") as address:
        port = urlsplit(address).port
        assert port is not None
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_what_does_not_start_is_said() -> None:
    with pytest.raises(Unusable, match=r"bench\.nothing did not start"), child_server("bench.nothing"):
        pass
