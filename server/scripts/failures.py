"""What becomes of what a script returns or raises: a body with its status, or an error of ours."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import orjson

from ..errors import ModelFailed, NotAcceptable, OutOfMemory, SlipwayError, UnsupportedMedia
from .call import Answer, Call
from .context import Context
from .pieces import LINES, Pieces

log = logging.getLogger("slipway.handlers")

TOOLKIT, UNSUPPORTED, MMS = "BaseInferenceToolkitError", "UnsupportedFormatError", "PredictionException"
"""Classes of other packages by their names: these may or may not be installed, and are not imported for this."""

BODILESS = frozenset((204, 205, 304))
"""Statuses that end an answer behind its head: a body would be taken for the next answer of the connection."""


def answer_of(result: Any, answer: Answer, call: Call, context: Context | None, function: str) -> None:
    """Fill an answer from what a function returned: data, or data and its type; a generator gives data in pieces, of
    which the first is computed here, so that it may still decide on status and headers.

    Raises ModelFailed when that is nothing that can be sent.
    """
    data, content_type = result if isinstance(result, tuple) and len(result) == 2 else (result, call.accept)
    pieces: Pieces | None = None
    if isinstance(data, Generator):
        pieces = Pieces(data, function, call.request_id)
        body, pieces, content_type = opened(pieces, content_type)
    elif isinstance(data, str):
        body = data.encode()
    elif isinstance(data, (bytes, bytearray, memoryview)):
        body = bytes(data)
    else:
        raise ModelFailed(
            f"{function} must return str or bytes, or that and a content type; it returned {type(data).__name__}"
        )
    if context is not None:
        answer.status, chosen, answer.headers = context.request_processor[0].outcome()
        content_type = chosen or content_type
    if not isinstance(content_type, str) or not content_type.isprintable() or not content_type.isascii():
        raise ModelFailed(f"{function} returned a content type that is none")
    answer.body, answer.content_type = body, content_type or call.accept
    if pieces is not None and answer.status in BODILESS:
        pieces.close()
    else:
        answer.pieces = pieces


def opened(pieces: Pieces, content_type: str) -> tuple[bytes, Pieces | None, str]:
    """The first piece, those that follow it if there may be some, and the content type."""
    first = pieces.first()
    return first or b"", None if first is None else pieces, LINES if pieces.lines else content_type


def failed(answer: Answer, error: BaseException, function: str, call: Call) -> None:
    """Fill an answer from what a function raised. The traceback goes to the log, with the request's id."""
    answer.body, answer.headers, answer.pieces = b"", [], None
    if isinstance(error, SlipwayError):
        if isinstance(error, ModelFailed):
            log.error("request %s: %s", call.request_id, error)
        answer.error = error
        return
    names = {kind.__name__ for kind in type(error).__mro__}
    chosen = _chosen(error, names)
    if chosen is not None and UNSUPPORTED not in names:
        status, message = chosen
        log.info("request %s: %s answered %d: %s", call.request_id, function, status, message)
        answer.status, answer.content_type = status, "application/json"
        answer.body = orjson.dumps({"error": message, "code": "script_error", "request_id": call.request_id})
        return
    log.error("request %s: %s failed", call.request_id, function, exc_info=error)
    if UNSUPPORTED in names:
        kind, header = (NotAcceptable, "Accept") if function == "output_fn" else (UnsupportedMedia, "Content-Type")
        value = call.accept if function == "output_fn" else call.content_type
        answer.error = kind(f'{header} "{str(value)[:100]}" is not supported by the script')
    elif isinstance(error, MemoryError):
        answer.error = OutOfMemory(f"{function} ran out of memory")
    elif isinstance(error, SystemExit):
        answer.error = ModelFailed(f"{function} called sys.exit; the server's log has the details")
    else:
        answer.error = ModelFailed(f"{function} raised {type(error).__name__}; the server's log has the details")
    answer.error.__cause__ = error


def _chosen(error: BaseException, names: set[str]) -> tuple[int, str] | None:
    """The status and message that the script's author chose, by raising what the toolkit or the model server offers."""
    if TOOLKIT in names:
        status = getattr(error, "status_code", None)
    elif MMS in names:
        status = getattr(error, "error_code", None)
    else:
        return None
    message = str(getattr(error, "message", error)).encode(errors="replace").decode()
    return (int(status), message) if isinstance(status, int) and 400 <= status <= 599 else (500, message)
