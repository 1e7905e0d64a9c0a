"""Listening sockets: a reserved port is shared with us alone, and many connections are accepted in one turn."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from server.errors import BadSetting
from server.system.listening import listen, often_accepted, reserve, share

HOST, CLIENTS = "127.0.0.1", 64


def test_a_reserved_port_is_shared_by_our_processes_and_refused_to_other_servers() -> None:
    with reserve(HOST, 0) as reserved:
        port = reserved.getsockname()[1]
        with share(HOST, port) as one, share(HOST, port) as two:
            one.listen()
            two.listen()
            with pytest.raises(BadSetting, match=f":{port}: .*--port"), listen(HOST, port, 1):
                pass
            with pytest.raises(BadSetting, match=f":{port}: .*--grpc-port"), reserve(HOST, port, "--grpc-port"):
                pass
            socket.create_connection((HOST, port)).close()
    with listen(HOST, port, 1), pytest.raises(BadSetting), reserve(HOST, port):
        pass


def test_connections_that_wait_are_accepted_in_a_few_turns_of_the_event_loop() -> None:
    made: list[asyncio.BaseTransport] = []

    class Counted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    async def turns(sockets: list[socket.socket]) -> int:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Counted, sock=one) for one in sockets]
        count = 0
        while len(made) < CLIENTS:
            await asyncio.sleep(0)
            count += 1
        for server in servers:
            server.close()
        for transport in made:
            transport.close()
        return count

    with listen(HOST, 0, CLIENTS) as sock:
        clients = [socket.create_connection(sock.getsockname()) for _ in range(CLIENTS)]
        assert uvloop.run(turns(often_accepted(sock))) < CLIENTS / 2
        for client in clients:
            client.close()
