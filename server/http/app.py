"""The FastAPI application: the documentation page, and every route for requests that do not take the hot path."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import MalformedInput, SlipwayError
from ..protocols import NO_HEADERS, Route
from ..protocols.absent import absent
from ..protocols.failure import body_of, request_id, send_failure
from ..protocols.guard import Guard
from ..protocols.responder import Source
from ..request import ColdHead, Head, Headers
from . import admin
from .admin import Admin
from .error_document import ERRORS
from .limits import body_too_large

DOCS = Path(__file__).with_name("docs.html")

DESCRIPTION = """
SageMaker's container contract and the Open Inference Protocol on one port.

Errors are one small JSON object: `error` (what was wrong and what to do), `code` (stable), `request_id`.
"""


def build(
    routes: Iterable[Route],
    version: str,
    max_body_bytes: int,
    administration: Admin | None = None,
    guard: Guard | None = None,
) -> FastAPI:
    """All routes as a FastAPI application, with the handlers of the hot path.

    ``administration``: of the admin API, which ``guard`` protects; without a guard there is no admin API.
    """
    app = FastAPI(
        title="Slipway",
        version=version,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lose the scheme behind a proxy
    )
    app.add_middleware(WithoutSlash)
    app.add_api_route("/docs", _docs, include_in_schema=False)
    for route in routes:
        extra = {"requestBody": route.request_body} if route.request_body else None
        for method in route.methods:  # one by one: an operation's id has to be unique in the document
            app.add_api_route(
                route.path,
                _endpoint(route, max_body_bytes),
                methods=[method],
                name=route.summary,
                summary=route.summary,
                description=route.description,
                tags=[route.tag],
                response_class=Response,
                responses=ERRORS,
                openapi_extra={**(extra or {}), "parameters": _path_parameters(route.path)},
                operation_id=f"{method.lower()}_{route.path.strip('/').replace('/', '_')}",
            )
        if "GET" in route.methods:
            app.add_api_route(route.path, _endpoint(route, max_body_bytes), methods=["HEAD"], include_in_schema=False)
    if administration is not None and guard is not None:
        app.router.routes += admin.routes(administration, guard)  # an included router does not show its methods
    app.add_exception_handler(SlipwayError, _our_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _our_fault)
    return app


class WithoutSlash:
    """Serves ``/invocations/`` as ``/invocations``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.endswith("/") and path != "/":
            scope = {**scope, "path": path.rstrip("/") or "/", "raw_path": scope["raw_path"].rstrip(b"/") or b"/"}
        await self._app(scope, receive, send)


async def _docs() -> Response:
    """A page that shows and tries every route (docs/decisions/0007-libraries.md says why it is written by hand)."""
    return Response(DOCS.read_bytes(), media_type="text/html")


class AsgiResponder:
    """Takes the response of a handler and gives it to the endpoint that awaits ``response``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.response: asyncio.Future[Response] = loop.create_future()

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        if self.response.done():
            return
        try:
            self.response.set_result(_response(status, content_type, body, headers))
        except Exception as error:  # noqa: BLE001 - raised again where the endpoint awaits it
            self.response.set_exception(error)

    def begin_stream(self, _status: int, _content_type: bytes, _headers: Headers, _source: Source, /) -> None:
        """Return None: through ASGI a response is sent whole."""


def _endpoint(route: Route, max_body_bytes: int) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        begun_ns = perf_counter_ns()
        scope = request.scope
        head = ColdHead(
            request.method.encode(), scope["raw_path"], list(scope["headers"]), begun_ns, scope["query_string"]
        )
        responder = AsgiResponder(asyncio.get_running_loop())
        answer = responder.response
        try:
            body = await _body(request, max_body_bytes)
        except ClientDisconnect:
            return Response(status_code=499)
        if body is None:
            send_failure(body_too_large(max_body_bytes), head, responder)
            return await answer
        head.received_ns = perf_counter_ns()
        pending = route.bind(dict(request.path_params))(head, body, responder)
        if not answer.done():
            left = asyncio.ensure_future(_disconnect(request))
            await asyncio.wait((answer, left), return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
            if not answer.done() and pending is not None:
                pending.abandoned = True
                return Response(status_code=499)
        return await answer

    return endpoint


async def _body(request: Request, max_body_bytes: int) -> bytes | None:
    """The body, or None when it exceeds the limit."""
    body = bytearray()  # a list would cost far more than very small parts
    async for part in request.stream():
        body += part
        if len(body) > max_body_bytes:
            return None
    return bytes(body)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(status: int, content_type: bytes, body: bytes, headers: Headers) -> Response:
    response = Response(body, status)
    response.raw_headers.append((b"content-type", content_type))
    response.raw_headers.extend(headers)
    return response


async def _http_error(request: Request, error: Any) -> Response:
    """404, 405 and 501 of routes that do not exist, in the shape of our other errors."""
    fleet = any(getattr(route, "path", "") == "/models" for route in request.app.routes)
    sentence = absent(request.url.path, fleet)
    if sentence and error.status_code == HTTPStatus.NOT_FOUND:
        return _error(request, 501, sentence, "not_supported", None)
    code = {404: "unknown_route", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    text = {
        404: f"no route {request.url.path[:200]}; /docs lists the routes",
        405: f"{request.method} is not allowed at {request.url.path[:200]}",
    }
    headers = {"allow": _allowed(request)} if error.status_code == 405 else error.headers
    return _error(request, error.status_code, text.get(error.status_code, str(error.detail)), code, headers)


def _allowed(request: Request) -> str:
    """The methods of all routes at this URL."""
    found = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in found for method in getattr(route, "methods", None) or ()}))


async def _our_error(request: Request, error: Any) -> Response:
    """An error of ours that an endpoint of the admin API raised."""
    responder = AsgiResponder(asyncio.get_running_loop())
    send_failure(error, Head(b"", b"", list(request.scope["headers"])), responder)
    return await responder.response


async def _invalid(request: Request, error: Any) -> Response:
    """A body that does not fit the admin API's schema."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    return await _our_error(request, MalformedInput(f"{where}: {first['msg']}"))


async def _our_fault(request: Request, error: Exception) -> Response:  # noqa: ARG001 - uvicorn logs it
    return _error(request, 500, "the server failed; its log has the details", SlipwayError.code, None)


def _error(request: Request, status: int, text: str, code: str, headers: Any) -> Response:
    class Coded(SlipwayError):
        pass

    Coded.code = code
    body = body_of(Coded(text), request_id(Head(b"", b"", list(request.scope["headers"]))))
    return Response(body, status, headers=headers, media_type="application/json")


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
