"""The exchange: the state that one request keeps until its response has been sent."""

from __future__ import annotations

from ..codecs import Writer
from ..models import ServedModel
from ..request import Head, Payload
from . import Responder


class Exchange:
    """Model, head, responder and decoded payload of a request, and the writer of its response.

    ``timing_header`` names the response header that carries stage times, empty for none. ``echo`` holds the custom
    attributes that the client wants back, empty for none. ``captured`` is the body of the request if data capture takes
    it with its response.
    """

    __slots__ = ("captured", "echo", "head", "model", "payload", "responder", "timing_header", "writer")

    def __init__(
        self, model: ServedModel, head: Head, responder: Responder, payload: Payload, writer: Writer | None = None
    ) -> None:
        self.model = model
        self.head = head
        self.responder = responder
        self.payload = payload
        self.writer = writer
        self.timing_header = b""
        self.echo = b""
        self.captured: bytes | None = None
