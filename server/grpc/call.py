"""The call: one gRPC call from its header fields to its trailers, between the connection and what answers it."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from time import perf_counter_ns
from typing import Any

import orjson

from ..content_encoding import expand
from ..errors import MalformedInput, ServerFull, SlipwayError, SlowRequest, Unauthorized, UnsupportedMedia
from ..protocols.failure import send_failure
from ..protocols.offload import on_thread
from ..protocols.responder import NO_HEADERS, Source
from ..request import Head, Headers
from . import header_blocks
from .codes import Code, code_of
from .connection import Connection
from .fields import IDENTITY, Fields, deadline_header
from .inbox import PREFIX_BYTES, Inbox
from .port import Conversation, Method, Owner, Port
from .stream import Stream

log = logging.getLogger("slipway.grpc")

OK = 200

ENCODINGS = frozenset((b"gzip", b"deflate"))
"""Encodings of compressed messages."""

QUEUED_BYTES = 262_144
"""Messages of a conversation that may wait before its client must stop sending."""

ENTRY_BYTES = 64
"""What a waiting message counts beside its bytes."""

UNKNOWN = Method(sentence="this server has no such method")
FAILED = "the server failed; its log has the details"


class Call:
    """One call. ``owner``: what is told when the call ends or the server leaves; None: nothing needs to know.

    Methods that send do nothing once the call has ended.
    """

    __slots__ = (
        *("_body", "_connection", "_expanding", "_held_bytes", "_inbox", "_method", "_port", "_pumping", "_queue"),
        *("_queued_bytes", "_received_bytes", "_seen_bytes", "_since_ns", "_timer", "begun_ns", "fields", "owner"),
        "stream",
    )

    def __init__(self, port: Port, connection: Connection, stream: Stream, fields: Fields) -> None:
        stream.receiver = self
        self.stream = stream
        self.fields = fields
        self.begun_ns = self._since_ns = connection.now_ns
        self.owner: Owner | None = None
        self._port = port
        self._connection = connection
        self._method = method = port.table.get(fields.path, UNKNOWN)
        self._inbox: Inbox | None = None
        self._body: bytes | None = None  # of a call of one message
        self._queue: deque[tuple[bool, bytes] | None] = deque()  # messages that wait; None is the end
        self._queued_bytes = self._held_bytes = 0
        self._received_bytes = self._seen_bytes = 0
        self._expanding = self._pumping = False
        self._timer: Any = None
        port.calls += 1
        if fields.status or fields.error is not None or method.serve is None or port.calls > port.hot.connections.limit:
            self._begin_slowly()
        elif port.keys is not None and not method.open:
            self._check_key()

    def head(self) -> Head:
        """The head of the request of a call of one message."""
        return Head(b"POST", self.fields.path, self.fields.headers, self.begun_ns, perf_counter_ns())

    def message_head(self) -> Head:
        """The head of one message of a conversation: its deadline is the time that the call has left."""
        now_ns, headers = perf_counter_ns(), self.fields.headers
        if self.fields.timeout_ns:
            left_ns = self.fields.timeout_ns - (now_ns - self.begun_ns)
            headers = [*headers[:-1], deadline_header(left_ns)]
        return Head(b"POST", self.fields.path, headers, now_ns, now_ns)

    # Called by what answers the call

    def respond(self, message: bytes, headers: Headers = NO_HEADERS) -> None:
        """Send the only message, with response headers as trailing metadata, and end."""
        if self._sendable():
            self._connection.out.reply(self.stream, message, header_blocks.success(headers))

    def write(self, message: bytes) -> None:
        """Send one of several messages."""
        if self._sendable():
            self._connection.out.message(self.stream, message)

    def fail(self, code: Code, message: str = "", headers: Headers = NO_HEADERS) -> None:
        """End with a code; OK ends a conversation."""
        if not self.ended:
            self._connection.out.end(self.stream, header_blocks.trailers(code, message, headers))

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:  # noqa: ARG002
        """Send the response of a route: a serialized message, or the JSON of an error."""
        if status == OK:
            self.respond(body, headers)
        else:
            self.fail(code_of(status), problem(body), headers)

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> None:  # noqa: ARG002
        """Responses are sent whole."""
        return

    def refuse(self, error: SlipwayError) -> None:
        """Count and send an error of the call itself."""
        self._port.hot.refused[error.code] += 1
        send_failure(error, self.head(), self)

    def failed(self, error: BaseException) -> None:
        """The last resort: of an error that nobody expected the log has the details, and the client gets none."""
        log.error("a call failed path=%s", ascii(self.fields.path), exc_info=error)
        self.fail(Code.INTERNAL, FAILED)

    def more(self) -> None:
        """The conversation may have room again."""
        if self._queue:
            self._pump()

    @property
    def ended(self) -> bool:
        """Whether the response is complete, or cannot be sent any more."""
        return self.stream.over or self.stream.trailers is not None

    # Called by the connection

    def data(self, data: bytes, begin: int, end: int, last: bool) -> None:
        """Bytes of messages. The usual call, whose only message is one frame, is handed on at once."""
        size = end - begin - PREFIX_BYTES
        method = self._method
        if (
            last
            and size >= 0
            and self._inbox is None
            and not data[begin]
            and method.serve is not None
            and int.from_bytes(data[begin + 1 : begin + PREFIX_BYTES], "big") == size <= self._port.hot.max_body_bytes
        ):
            self._serve(data[begin + PREFIX_BYTES : end])
        else:
            self._feed(data[begin:end], last)

    def drained(self) -> None:
        self.more()

    def slow(self, arrived_bytes: int, least_bytes: float, before_ns: int) -> None:
        came_bytes = self._received_bytes + arrived_bytes - self._seen_bytes
        self._seen_bytes += came_bytes
        waiting = self._method.serve is not None or not (self._inbox is None or self._inbox.between)
        late = self._since_ns <= before_ns and came_bytes < least_bytes
        if late and waiting and self.stream.remote_open and self.stream.hungry:
            self.refuse(SlowRequest(f"the request has not arrived in time; less than {least_bytes:g} bytes came"))

    def leave(self) -> None:
        if self.owner is not None:
            self.owner.leave()

    def closed(self) -> None:
        self._queue.clear()
        self._body = None
        self._inbox = None
        self._hold(0)
        if self._timer is not None:
            self._timer.cancel()
        if self.owner is not None:
            self.owner.over(self._over)
        else:
            self._over()

    # The beginning

    def _begin_slowly(self) -> None:
        """Refuse the call, or begin a conversation."""
        fields, method = self.fields, self._method
        if fields.status:
            self._connection.out.last(self.stream, header_blocks.no_call(fields.status))
        elif fields.error is not None:
            self.refuse(fields.error)
        elif method.converse is None and method.serve is None:
            self.fail(Code.UNIMPLEMENTED, method.sentence)
        elif self._port.calls > self._port.hot.connections.limit:
            self.refuse(ServerFull("the server has as many calls as it may; retry later"))
        elif (method.open or self._port.keys is None or self._check_key()) and method.converse is not None:
            if fields.timeout_ns:
                self._timer = self._port.later(fields.timeout_ns / 1e9, self._expire)
            self.owner = method.converse(self)

    def _check_key(self) -> bool:
        """Whether the call has the key that it needs. Without one it is refused."""
        assert self._port.keys is not None
        try:
            self._port.keys.check(self.head())
        except Unauthorized as error:
            self.fail(Code.UNAUTHENTICATED, str(error))
            return False
        return True

    # Messages that do not come in one frame

    def _feed(self, chunk: bytes, last: bool) -> None:
        if self.ended:
            return  # its trailers wait for the client's window
        try:
            self._take(chunk)
        except SlipwayError as error:
            self.refuse(error)
            return
        if last:
            self._queue.append(None)
        self._pump()

    def _take(self, chunk: bytes) -> None:
        """Add bytes to the inbox, and complete messages to the queue. Raises SlipwayError."""
        account = self._port.hot.account
        if account.full(len(chunk)):
            account.refused += 1
            raise ServerFull("the server holds as many received bytes as it may; retry later")
        if self._inbox is None:
            self._inbox = Inbox(self._port.hot.max_body_bytes)
        if self._inbox.between and self._method.serve is None:
            self._since_ns = self._connection.now_ns
        self._received_bytes += len(chunk)
        for compressed, body in self._inbox.feed(chunk):
            if compressed and self.fields.encoding not in ENCODINGS:
                if self.fields.encoding == IDENTITY:
                    raise MalformedInput("a message is compressed, but grpc-encoding names no encoding")
                raise UnsupportedMedia("grpc-encoding is not supported; send gzip, deflate, or plain messages")
            self._queue.append((compressed, body))
            self._queued_bytes += len(body) + ENTRY_BYTES
        self._hold(self._inbox.held_bytes + self._queued_bytes)

    def _pump(self) -> None:
        """Hand on the messages that wait, as far as there is room for them."""
        if self._pumping:
            return
        self._pumping = True
        while self._queue and not self._expanding and not self.ended:
            entry = self._queue[0]
            if entry is None:
                self._queue.popleft()
                self._end()
            elif self._method.converse is not None and not self._conversation.room:
                break
            elif entry[0]:
                self._expanding = True
                work = partial(expand, entry[1], self.fields.encoding, self._port.hot.max_body_bytes)
                on_thread(work, self._expanded)
            else:
                self._hand_on(entry[1])
        self._pumping = False
        if not self.stream.over:
            self.stream.hungry = self._method.serve is not None or self._queued_bytes <= QUEUED_BYTES
            self._connection.refill(self.stream)

    def _expanded(self, end: bytes | BaseException) -> None:
        """A compressed message was expanded on another thread, or could not be."""
        self._expanding = False
        if self.ended:
            return
        if isinstance(end, bytes):
            self._hand_on(end)
            self._pump()
        elif isinstance(end, SlipwayError):
            self.refuse(end)
        else:
            self.failed(end)

    def _hand_on(self, body: bytes) -> None:
        """The first message of the queue, expanded, goes to what answers the call."""
        entry = self._queue.popleft()
        assert entry is not None
        if self._method.serve is not None:
            if self._body is not None:
                self.refuse(MalformedInput("the call has two messages; send one"))
                return
            self._body = body
            return
        self._queued_bytes -= len(entry[1]) + ENTRY_BYTES
        assert self._inbox is not None
        self._hold(self._inbox.held_bytes + self._queued_bytes)
        try:
            self._conversation.message(body)
        except Exception as error:  # noqa: BLE001 - logged there
            self.failed(error)

    def _end(self) -> None:
        """The client sends nothing more."""
        if self._inbox is not None and not self._inbox.between:
            self.refuse(MalformedInput("the last message is cut off; send all of it"))
        elif self._method.converse is not None:
            self._conversation.ended()
        elif self._body is None:
            self.refuse(MalformedInput("the call has no message; send one"))
        else:
            body, self._body = self._body, None
            self._queued_bytes = 0
            self._hold(0)
            self._serve(body)

    def _serve(self, body: bytes) -> None:
        serve = self._method.serve
        assert serve is not None
        try:
            serve(self, body)
        except Exception as error:  # noqa: BLE001 - logged there
            self.failed(error)

    @property
    def _conversation(self) -> Conversation:
        assert self.owner is not None
        return self.owner  # type: ignore[return-value]  # a method that converses sets it so

    # The end

    def _expire(self) -> None:
        self.fail(Code.DEADLINE_EXCEEDED, "the time of the call has passed")

    def _sendable(self) -> bool:
        """Whether a message can be sent. The call fails if too many bytes wait for clients that do not read."""
        if self.ended:
            return False
        if self._port.unsent.full(0):
            self.fail(Code.RESOURCE_EXHAUSTED, "the clients do not read the responses that they have")
            return False
        return True

    def _hold(self, size_bytes: int) -> None:
        """Count the bytes of messages that are not handed on."""
        if size_bytes != self._held_bytes:
            self._port.hot.account.move(size_bytes - self._held_bytes)
            self._held_bytes = size_bytes

    def _over(self) -> None:
        """No request of the call is left."""
        self._connection.under_way -= 1
        self._port.calls -= 1


def problem(body: bytes) -> str:
    """The message of an error in JSON."""
    return str(orjson.loads(body)["error"])
