"""What travels: the head of a request, and what a codec made of its body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .tensors import Array

Headers = list[tuple[bytes, bytes]]

STAGES = ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode", "send")


class Head:
    """Method, path and headers of a request; header names are lower case, all as raw bytes."""

    __slots__ = ("headers", "method", "path")

    def __init__(self, method: bytes, path: bytes, headers: Headers) -> None:
        self.method = method
        self.path = path
        self.headers = headers

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Payload:
    """A decoded body.

    ``arrays`` in the order of the model's inputs, C-contiguous, of exactly the model's dtypes, shapes checked;
    ``rows`` is the size of the batch axis (1 for a model without one). ``style`` is the codec's own note on how to
    phrase the reply. ``wanted`` are indices of the outputs asked for (None: all). ``parameters`` are the request's
    own, such as Open Inference's ``timeout``. ``notes`` is the codec's memory from decode to encode.
    """

    __slots__ = ("arrays", "notes", "parameters", "request_id", "rows", "style", "wanted")

    def __init__(
        self,
        arrays: tuple[Array, ...],
        rows: int,
        style: str = "",
        request_id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        wanted: tuple[int, ...] | None = None,
        notes: Any = None,
    ) -> None:
        self.arrays = arrays
        self.rows = rows
        self.style = style
        self.request_id = request_id
        self.parameters = parameters
        self.wanted = wanted
        self.notes = notes
