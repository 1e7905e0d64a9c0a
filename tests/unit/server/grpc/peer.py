"""A client for gRPC made of frames, on a fake transport: what it sends goes to one connection of a port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from server.grpc import frames
from server.grpc.call import Call
from server.grpc.codes import Code
from server.grpc.fields import Fields
from server.grpc.port import Method, Port
from server.grpc.protocol import GrpcProtocol
from server.grpc.running import Running
from server.http.hot import HotPath
from server.lifecycle import Lifecycle, Phase
from server.request import InferRequest
from tests.fakes import FakeLoop, FakeTransport

OPENING = frames.PREFACE + frames.settings({})


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def parsed(data: bytes) -> list[Frame]:
    """The frames of these bytes, which must be whole."""
    found = []
    while data:
        upper, lower, kind, flags, stream = frames.read_head(data)
        end = 9 + (upper << 8 | lower)
        assert end <= len(data), "the last frame is cut off"
        found.append(Frame(kind, flags, stream, data[9:end]))
        data = data[end:]
    return found


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that changes no table."""
    assert max(len(name), len(value)) < 127
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


def block(path: bytes = b"/echo", *further: tuple[bytes, bytes], **changed: bytes) -> bytes:
    """The header block of a call."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path, b"content-type": b"application/grpc"}
    fields |= {f":{name}".encode(): value for name, value in changed.items()}
    return b"".join(literal(*pair) for pair in (*fields.items(), *further))


def message(body: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(body).to_bytes(4, "big") + body


def headers(stream: int, of: bytes | None = None, flags: int = frames.END_HEADERS) -> bytes:
    return frames.frame(frames.HEADERS, flags, stream, block() if of is None else of)


def data(stream: int, payload: bytes, last: bool = True) -> bytes:
    return frames.frame(frames.DATA, frames.END_STREAM if last else 0, stream, payload)


def call(stream: int, body: bytes = b"hello", path: bytes = b"/echo") -> bytes:
    """The frames of one call."""
    return headers(stream, block(path)) + data(stream, message(body))


def response(stream: int, body: bytes = b"hello") -> list[Frame]:
    """The frames of the response to an echo."""
    head = b"\x88\x0f\x10\x10application/grpc"
    return [
        Frame(frames.HEADERS, frames.END_HEADERS, stream, head),
        Frame(frames.DATA, 0, stream, message(body)),
        Frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, b"\x00\x0bgrpc-status\x010"),
    ]


class Chat:
    """Answers each message with itself, as long as ``room`` says so."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.room = True
        self.heard: list[bytes] = []

    def message(self, body: bytes) -> None:
        self.heard.append(body)
        self.call.write(body)

    def ended(self) -> None:
        self.call.fail(Code.OK)

    def leave(self) -> None:
        self.call.fail(Code.UNAVAILABLE, "draining")

    def over(self, then: Callable[[], None]) -> None:
        then()


class Service:
    """A port with methods that echo, hold back, fail, and talk."""

    def __init__(self, loop: FakeLoop | None = None, **limits: Any) -> None:
        self.loop = loop or FakeLoop()
        lifecycle = Lifecycle()
        lifecycle.move(Phase.READY)
        self.hot = HotPath(lifecycle, **limits)
        self.bodies: list[bytes] = []
        self.fields: list[Fields] = []
        self.held: list[tuple[Call, InferRequest]] = []
        self.chats: list[Chat] = []
        table = {
            b"/echo": Method(serve=self.echo),
            b"/hold": Method(serve=self.hold),
            b"/break": Method(serve=self.explode),
            b"/chat": Method(converse=self.chat),
        }
        self.port = Port(self.hot, table, self.loop.call_later)
        self.gone: list[GrpcProtocol] = []

    def echo(self, call: Call, body: bytes) -> None:
        self.bodies.append(body)
        self.fields.append(call.fields)
        call.respond(body)

    def hold(self, call: Call, body: bytes) -> None:
        """A request that ends when the test ends it."""
        running = Running(self.hot.account, lambda one: call.respond(one.body))
        call.owner = running
        request = InferRequest((), 1, lambda _: None)
        running.began(request)
        self.held.append((call, request))

    def explode(self, call: Call, body: bytes) -> None:
        raise RuntimeError("a secret")

    def chat(self, call: Call) -> Chat:
        self.chats.append(Chat(call))
        return self.chats[-1]


class Peer:
    """One connection to a service."""

    def __init__(self, service: Service | None = None, opening: bytes = OPENING, **limits: Any) -> None:
        self.service = service or Service(**limits)
        self.loop = self.service.loop
        self.protocol = GrpcProtocol(self.service.port, self.loop, self.service.gone.append)
        self.transport = FakeTransport()
        self.protocol.connection_made(self.transport)
        if opening:
            self.opened = self.send(opening)

    def send(self, data: bytes) -> list[Frame]:
        """The frames that come back for these bytes."""
        self.protocol.data_received(data)
        return self.take()

    def take(self) -> list[Frame]:
        """The frames that came back since this was last asked."""
        self.loop.turn()
        return parsed(self.transport.take())

    def ending(self, data: bytes) -> int:
        """The code of the GOAWAY frame that these bytes bring."""
        last = self.send(data)[-1]
        assert last.kind == frames.GOAWAY
        assert self.transport.ended or self.transport.closed
        return int.from_bytes(last.payload[4:8], "big")

    def close(self) -> None:
        self.protocol.connection_lost(None)
