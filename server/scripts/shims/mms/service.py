"""The multi-model server's exception."""

from __future__ import annotations


class PredictionException(Exception):
    """A response with this status and message."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code
