"""The platform's clock around a call, against sockets that misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from container.local.call import Address, NoResponse, call

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"


@contextmanager
def talking(say: Callable[[socket.socket], None]) -> Iterator[Address]:
    """One connection is accepted and talked to once its request has begun to arrive."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                say(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("127.0.0.1", listener.getsockname()[1], 0.25)
        finally:
            thread.join()


def until_it_leaves(connection: socket.socket) -> None:
    while connection.recv(1):
        pass


def test_a_connection_that_is_not_accepted_in_time_is_no_answer() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):  # nobody accepts: the queue is full after the first
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        with pytest.raises(NoResponse, match="not accepted within 50 ms"):
            call(Address("127.0.0.1", address[1], 0.05), "GET", "/ping", within_s=5)


def test_a_closed_port_raises_no_response() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NoResponse, match="refused"):
        call(Address("127.0.0.1", port, 0.25), "GET", "/ping", within_s=5)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", HEAD + b"\r\n12", HEAD + b"Connection: close\r\n\r\n12"])
def test_an_answer_that_trickles_is_cut_off_when_its_time_is_up(sent: bytes) -> None:
    def say(connection: socket.socket) -> None:
        connection.sendall(sent)
        until_it_leaves(connection)

    with talking(say) as address, pytest.raises(NoResponse, match=r"within 0.1 s") as caught:
        call(address, "GET", "/", within_s=0.1)
    assert caught.value.late


@pytest.mark.parametrize("sent", [b"", b"nonsense\r\n\r\n", HEAD + b"\r\n12"])
def test_an_answer_that_is_no_whole_http_is_no_answer(sent: bytes) -> None:
    with talking(lambda connection: connection.sendall(sent)) as address, pytest.raises(NoResponse) as caught:
        call(address, "GET", "/", within_s=30)
    assert not caught.value.late


def test_an_answer_that_comes_before_the_end_of_the_request_counts() -> None:
    def say(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    with talking(say) as address:
        assert call(address, "POST", "/", {}, bytes(1_000_000), within_s=30).status == 413
