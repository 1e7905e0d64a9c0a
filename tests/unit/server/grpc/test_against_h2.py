"""Another implementation of HTTP/2 as the client: it refuses whatever breaks a rule."""

from __future__ import annotations

import random

import h2.connection
import h2.events
import h2.settings

from tests.unit.server.grpc.peer import Peer, message

FIELDS = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), ("content-type", "application/grpc")]


class Client:
    """A client of h2 on one connection."""

    def __init__(self) -> None:
        self.peer = Peer(opening=b"")
        self.h2 = h2.connection.H2Connection()
        self.h2.initiate_connection()
        self.messages: dict[int, bytes] = {}
        self.trailers: dict[int, dict[bytes, bytes]] = {}
        self.resets: list[int] = []

    def exchange(self) -> None:
        """Send what is to be sent, and take what comes back, until there is nothing more."""
        while sent := self.h2.data_to_send():
            self.peer.protocol.data_received(sent)
            self.peer.loop.turn()
            for event in self.h2.receive_data(self.peer.transport.take()):
                if isinstance(event, h2.events.DataReceived):
                    assert event.stream_id is not None
                    self.messages[event.stream_id] = self.messages.get(event.stream_id, b"") + (event.data or b"")
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                elif isinstance(event, h2.events.TrailersReceived):
                    assert event.stream_id is not None
                    self.trailers[event.stream_id] = dict(event.headers or [])
                elif isinstance(event, h2.events.StreamReset):
                    assert event.stream_id is not None
                    self.resets.append(event.stream_id)

    def call(self, path: str, payload: bytes) -> int:
        """Begin a call, and send as much of its messages as the windows allow."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, [(":path", path), *FIELDS[:3], FIELDS[3], ("x-number", str(number))])
        while payload:
            size = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(payload))
            self.h2.send_data(number, payload[:size], end_stream=size == len(payload))
            payload = payload[size:]
            self.exchange()
        return number


def test_calls_of_all_sizes_are_answered() -> None:
    client = Client()
    client.exchange()
    bodies = [random.Random(size).randbytes(size) for size in (0, 1, 16_379, 16_380, 70_000, 3_000_000)]
    numbers = [client.call("/echo", message(body)) for body in bodies]
    assert [client.messages[one] for one in numbers] == [message(body) for body in bodies]
    assert all(client.trailers[one] == {b"grpc-status": b"0"} for one in numbers)


def test_metadata_that_changes_the_table_at_every_call_is_read() -> None:
    client = Client()
    for _ in range(200):
        client.call("/echo", message(b"x"))
    heads = [dict(one.headers) for one in client.peer.service.fields]
    assert [one[b"x-number"] for one in heads] == [b"%d" % (2 * index + 1) for index in range(200)]


def test_settings_that_change_under_way_are_obeyed() -> None:
    client = Client()
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 200})
    client.exchange()
    one = client.call("/hold", message(b""))
    client.peer.service.held[0][0].respond(bytes(5_000))
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2_000})
    client.exchange()
    assert len(client.messages[one]) == 5_005


def test_a_refused_call_is_told_to_stop_sending() -> None:
    client = Client()
    number = client.h2.get_next_available_stream_id()
    client.h2.send_headers(number, [(":path", "/none"), *FIELDS])
    client.exchange()
    assert client.resets == [number]
    after = client.call("/echo", message(b"after"))
    assert client.messages[after] == message(b"after")
