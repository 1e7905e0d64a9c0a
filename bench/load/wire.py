"""The wire: the bytes of a request, head and body, made once so that sending is one write."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field

from ..errors import Unusable
from .payload import Payload
from .server_timing import Carrier
from .target import Target

NUMBER_DIGITS = len(b"%012d" % 0)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_NUMBER = b"{{number}}"
PLACEHOLDERS = ("{{payload}}", "{{payload_base64}}", "{{payload_string}}", "{{number}}")
"""In a template's body: the payload as it is, in base64, as a JSON string; the request's number (in the path too)."""


@dataclass(frozen=True, slots=True)
class Wire:
    """``pieces`` joined by the request's number; one piece where the number does not occur.

    ``body_bytes``: the length of the body in it.
    """

    pieces: tuple[bytes, ...]
    body_bytes: int

    def numbered(self, index: int) -> bytes:
        """The bytes of the index-th request; the number has leading zeros, so that every request is as long."""
        pieces = self.pieces
        return pieces[0] if len(pieces) == 1 else (b"%012d" % index).join(pieces)


@dataclass(frozen=True, slots=True)
class Template:
    """Method, headers and body of the requests for a route. ``body``: None where the payload is the body."""

    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = field(default=())
    body: bytes | None = None


PLAIN = Template()


def template(method: str, headers: list[str], body: bytes | None) -> Template:
    """Parse a template from the user's options; headers are ``Name: value``. Raises Unusable."""
    if not re.fullmatch(r"[A-Z]+", method):
        raise Unusable(f"the method {method!r} must be capital letters")
    split = [tuple(part.strip() for part in one.partition(":")[::2]) for one in headers]
    for (name, value), text in zip(split, headers, strict=True):
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value) or ":" not in text:
            raise Unusable(f"cannot read the header {text!r}: write 'Name: value' in printable ASCII")
        if name.lower() in ("content-length", "transfer-encoding", "host", "connection"):
            raise Unusable(f"the header {name!r} follows from the request and cannot be set")
    return Template(method, tuple((name, value) for name, value in split), body)


def render(target: Target, payload: Payload, carrier: Carrier, form: Template = PLAIN) -> Wire:
    """Render the request for a payload. Raises Unusable where the template cannot hold the payload."""
    body = payload.body if form.body is None else _fill(form.body, payload)
    longer = 0 if form.body is None else body.count(_NUMBER) * (NUMBER_DIGITS - len(_NUMBER))
    length = len(body) + longer
    headers = {
        "Host": target.authority,
        "Content-Type": payload.content_type,
        "Content-Length": str(length),
        "Accept": "*/*",
    }
    for name, value in (*carrier.request_headers, *payload.headers, *form.headers):
        # Header names ignore case: a template's content-type replaces the default one.
        known = next((one for one in headers if one.lower() == name.lower()), name)
        headers[known] = value
    head = [f"{form.method} {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    whole = "\r\n".join(head).encode("ascii")
    if form.body is None:
        # A payload is sent unchanged; only the head and a template's body have placeholders.
        *first, last = whole.split(_NUMBER)
        return Wire((*first, last + body), length)
    return Wire(tuple((whole + body).split(_NUMBER)), length)


def _fill(text: bytes, payload: Payload) -> bytes:
    filled = text.replace(b"{{payload_base64}}", base64.b64encode(payload.body))
    if b"{{payload_string}}" in filled:
        try:
            filled = filled.replace(b"{{payload_string}}", json.dumps(payload.body.decode()).encode())
        except UnicodeDecodeError as error:
            raise Unusable(f"the payload {payload.name!r} is no text: use {{{{payload_base64}}}} for it") from error
    return filled.replace(b"{{payload}}", payload.body)
