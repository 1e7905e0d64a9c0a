"""The error document in the OpenAPI description: the one shape of all errors of all routes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ErrorDocument(BaseModel):
    """What was wrong and what to do, a stable code, and the id of the request."""

    error: str
    code: str
    request_id: str


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorDocument, "description": "The request was refused"},
    422: {"model": ErrorDocument, "description": "The values, or the model to load, cannot be used"},
    "5XX": {"model": ErrorDocument, "description": "The server or the model failed, or is not ready"},
}
"""Errors of every route, by status."""
