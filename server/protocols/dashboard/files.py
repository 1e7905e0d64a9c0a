"""The files of the dashboard: read once, sent from memory. The page may use nothing but this server."""

from __future__ import annotations

from pathlib import Path

from ...request import Head, Headers
from .. import Handler, Responder

FOLDER = Path(__file__).parent
PAGE = "page.html"

HTML = b"text/html; charset=utf-8"
CSS = b"text/css; charset=utf-8"
JAVASCRIPT = b"text/javascript; charset=utf-8"

SCRIPTS = (
    *("page", "server", "history", "elements", "charts", "overview", "models", "requests"),
    *("trial", "tensors", "answer", "admin"),
)
FILES = {"/dashboard/page.css": CSS, **{f"/dashboard/{name}.js": JAVASCRIPT for name in SCRIPTS}}
"""URL to content type. These files hold no data, and need no API key."""

POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-content-type-options", b"nosniff")]
PAGE_HEADERS: Headers = [
    *HEADERS,
    (b"content-security-policy", POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"accept"),
]


def contents(name: str) -> bytes:
    """The bytes of a file of this folder."""
    return (FOLDER / name).read_bytes()


def fixed(path: str) -> Handler:
    """A handler that sends the file of this URL."""
    content_type, body = FILES[path], contents(path.rpartition("/")[2])

    def handle(head: Head, _body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
        responder.send(200, content_type, body, HEADERS)

    return handle
