"""A request that is under way: the responder that it has, and the received bytes that it holds."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ServerFull
from ..http.limits import SMALL_BODY_BYTES, ProcessAccount
from ..protocols.responder import NO_HEADERS, Source
from ..request import Headers, InferRequest
from .call import problem


class Running:
    """One request. ``sent`` is called with it when its response is there.

    ``status`` is HTTP's, 0 before the response. ``body`` is a serialized message, or the JSON of an error.
    """

    __slots__ = ("_account", "_held_bytes", "_request", "_sent", "body", "headers", "identity", "status")

    def __init__(self, account: ProcessAccount, sent: Callable[[Running], None]) -> None:
        self.status = 0
        self.body = b""
        self.headers: Headers = NO_HEADERS
        self.identity = ""
        self._account = account
        self._sent = sent
        self._held_bytes = 0
        self._request: InferRequest | None = None

    def hold(self, size_bytes: int) -> None:
        """Count a received message until the request is over. Raises ServerFull."""
        if size_bytes <= SMALL_BODY_BYTES:
            return
        if self._account.full(size_bytes):
            self._account.refused += 1
            raise ServerFull("the server holds as many received bytes as it may; retry later")
        self._account.move(size_bytes)
        self._held_bytes = size_bytes

    def began(self, request: InferRequest | None) -> None:
        """The request was handed on; None: it was refused."""
        if not self.status:
            self._request = request

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:  # noqa: ARG002
        self.status, self.body, self.headers = status, body, headers
        self._request = None
        if self._held_bytes:
            self._account.move(-self._held_bytes)
            self._held_bytes = 0
        self._sent(self)

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> None:  # noqa: ARG002
        """Responses are sent whole."""
        return

    def problem(self) -> str:
        """The message of an error."""
        return problem(self.body)

    def over(self, then: Callable[[], None]) -> None:
        """The call has ended: a request without a response is not run any more. ``then`` is called when it has ended;
        its bytes count until then."""
        request, held_bytes, account = self._request, self._held_bytes, self._account
        self._held_bytes = 0
        if request is None or request.ended:
            account.move(-held_bytes)
            then()
            return
        request.abandoned = True
        done = request.done

        def release(ended: InferRequest) -> None:
            account.move(-held_bytes)
            then()
            done(ended)

        request.done = release

    def leave(self) -> None:
        """The server is draining: the request goes on."""
