"""Responses of script functions: from a returned value or a raised exception to a body with a status, or an error."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import orjson

from ..errors import ModelFailed, NotAcceptable, OutOfMemory, SlipwayError, UnsupportedMedia
from .call import Call, ScriptResponse
from .chunks import JSON_LINES, Chunks
from .context import Context

log = logging.getLogger("slipway.scripts")

TOOLKIT, UNSUPPORTED, MMS = "BaseInferenceToolkitError", "UnsupportedFormatError", "PredictionException"
"""Exception classes of the inference toolkit and the multi-model server, by name: the packages may not be installed."""

BODILESS = frozenset((204, 205, 304))
"""Statuses of responses without a body: a client would read a body as the next response of the connection."""


def fill_response(result: Any, response: ScriptResponse, call: Call, context: Context | None, function: str) -> None:
    """Fill a response from a function's result: str or bytes, alone or with a content type.

    A generator yields the body in chunks. The first chunk is computed here, so that the script can still set status and
    headers. Raises ModelFailed for a result that cannot be sent.
    """
    data, content_type = result if isinstance(result, tuple) and len(result) == 2 else (result, call.accept)
    chunks: Chunks | None = None
    if isinstance(data, Generator):
        chunks = Chunks(data, function, call.request_id)
        body, chunks, content_type = first_chunk(chunks, content_type)
    elif isinstance(data, str):
        body = data.encode()
    elif isinstance(data, (bytes, bytearray, memoryview)):
        body = bytes(data)
    else:
        raise ModelFailed(
            f"{function} must return str or bytes, or that and a content type; it returned {type(data).__name__}"
        )
    if context is not None:
        response.status, chosen, response.headers = context.request_processor[0].outcome()
        content_type = chosen or content_type
    if not isinstance(content_type, str) or not content_type.isprintable() or not content_type.isascii():
        raise ModelFailed(f"{function} returned an invalid content type; return printable ASCII text")
    response.body, response.content_type = body, content_type or call.accept
    if chunks is not None and response.status in BODILESS:
        chunks.close()
    else:
        response.chunks = chunks


def first_chunk(chunks: Chunks, content_type: str) -> tuple[bytes, Chunks | None, str]:
    """The first chunk, the generator of the rest (None if it has ended), and the content type."""
    first = chunks.first()
    return first or b"", None if first is None else chunks, JSON_LINES if chunks.as_lines else content_type


def fill_failure(response: ScriptResponse, error: BaseException, function: str, call: Call) -> None:
    """Fill a response from a function's exception. The traceback goes to the log, with the request's id."""
    response.body, response.headers, response.chunks = b"", [], None
    if isinstance(error, SlipwayError):
        if isinstance(error, ModelFailed):
            log.error("script failed request=%s function=%s: %s", call.request_id, function, error)
        response.error = error
        return
    names = {kind.__name__ for kind in type(error).__mro__}
    chosen = _chosen(error, names)
    if chosen is not None and UNSUPPORTED not in names:
        status, message = chosen
        log.info("script chose status=%d request=%s function=%s: %s", status, call.request_id, function, message)
        response.status, response.content_type = status, "application/json"
        response.body = orjson.dumps({"error": message, "code": "script_error", "request_id": call.request_id})
        return
    if UNSUPPORTED in names:
        kind, header = (NotAcceptable, "Accept") if function == "output_fn" else (UnsupportedMedia, "Content-Type")
        value = call.accept if function == "output_fn" else call.content_type
        response.error = kind(f'{header} "{str(value)[:100]}" is not supported by the script')
        response.error.__cause__ = error
        log.info("script refuses request=%s function=%s code=%s", call.request_id, function, kind.code)
        return
    log.error("script failed request=%s function=%s", call.request_id, function, exc_info=error)
    if isinstance(error, MemoryError):
        response.error = OutOfMemory(f"{function} ran out of memory")
    elif isinstance(error, SystemExit):
        response.error = ModelFailed(f"{function} called sys.exit; the server's log has the details")
    else:
        response.error = ModelFailed(f"{function} raised {type(error).__name__}; the server's log has the details")
    response.error.__cause__ = error


def _chosen(error: BaseException, names: set[str]) -> tuple[int, str] | None:
    """Status and message of an exception of the toolkit or the multi-model server; None for any other exception."""
    if TOOLKIT in names:
        status = getattr(error, "status_code", None)
    elif MMS in names:
        status = getattr(error, "error_code", None)
    else:
        return None
    message = str(getattr(error, "message", error)).encode(errors="replace").decode()
    return (int(status), message) if isinstance(status, int) and 400 <= status <= 599 else (500, message)
