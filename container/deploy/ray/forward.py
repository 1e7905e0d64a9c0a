"""Forwarding of a request from Ray to the server on its node, and of the response as it arrives.

Method, path, query, headers and bytes pass unchanged; only what belongs to one connection stays behind.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDict
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from yarl import URL

HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect"),
    )
)
"""Header fields of one connection (RFC 9110, section 7.6.1), and the 100-continue that Ray's proxy has answered."""
OF_THE_PROXY = frozenset(("date", "server"))
"""Header fields of responses that Ray's proxy writes itself."""
ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""Header fields that the client would add."""
WHOLE_BYTES = 1_048_576
"""Up to this size bodies are passed on as a whole: one message of Ray each."""
IDLE_S = 60.0
"""Below the server's keep-alive of 120 s, so that no request meets a connection that is being closed."""
ACCEPT_S = 5.0


class NoResponse(Exception):
    """The server accepted no connection, or closed it before the end of its response; the message is the kind."""


class Forwarder:
    """The connections to one server."""

    def __init__(self, url: str) -> None:
        """``url``: of the server, without a path. Must be made on the event loop that forwards."""
        self._url = url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=ACCEPT_S),
            auto_decompress=False,
            skip_auto_headers=ADDED,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def forward(self, request: Request) -> Response:
        """The server's response. Raises NoResponse where the server sends none."""
        sent = self._session.request(
            request.method,
            URL(self._url + target(request.scope), encoded=True),
            headers=CIMultiDict(_kept(request.headers.items(), HOP_BY_HOP)),
            data=await _body(request),
            allow_redirects=False,
        )
        try:
            upstream = await sent
        except (aiohttp.ClientError, OSError) as error:
            raise NoResponse(type(error).__name__) from error
        return await _response(upstream)

    async def text(self, path: str) -> str:
        """The body of a GET."""
        async with self._session.get(self._url + path) as response:
            text: str = await response.text()
        return text

    async def close(self) -> None:
        await self._session.close()


def target(scope: Mapping[str, Any]) -> str:
    """Path and query as the server shall see them: without the prefix of the deployment, escapes as they were sent."""
    prefix = scope.get("root_path") or ""
    raw = scope.get("raw_path")
    path = raw.decode("ascii") if raw else quote(scope["path"])
    path = path.removeprefix(prefix) or "/"
    query = scope.get("query_string") or b""
    return path + ("?" + query.decode("ascii") if query else "")


def _kept(fields: Iterable[tuple[str, str]], dropped: frozenset[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in fields if name.lower() not in dropped]


async def _body(request: Request) -> Any:
    """The whole body, or its parts as they arrive if Content-Length is above ``WHOLE_BYTES``."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > WHOLE_BYTES:
        return request.stream()
    return await request.body() or None


async def _response(upstream: aiohttp.ClientResponse) -> Response:
    fields = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in upstream.raw_headers]
    length = upstream.headers.get("content-length", "")
    if (length.isdecimal() and int(length) <= WHOLE_BYTES) or upstream.status in (204, 304):
        try:
            content = await upstream.read()
        except (aiohttp.ClientError, OSError) as error:
            raise NoResponse(type(error).__name__) from error
        made: Response = Response(content, upstream.status)
    else:
        made = StreamingResponse(_parts(upstream), upstream.status)
    made.raw_headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in _kept(fields, HOP_BY_HOP | OF_THE_PROXY)
    ]
    return made


async def _parts(upstream: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body as it arrives. A client that leaves closes the connection to the server too."""
    try:
        async for part in upstream.content.iter_any():
            yield part
    finally:
        upstream.release() if upstream.content.at_eof() else upstream.close()


def unavailable(error: NoResponse) -> Response:
    """503 in the form of the server's own errors."""
    said = {"error": f"the server of this replica sends no response ({error}); try again"}
    body = json.dumps({**said, "code": "not_ready"}).encode()
    return Response(body, 503, {"retry-after": "1"}, "application/json")
