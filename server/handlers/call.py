"""What travels to a script and back: a call is one request, an answer is what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import errors
from ..errors import SlipwayError
from ..request import NEVER, Headers
from ..tensors import BY_NAME, Array, ModelSpec, TensorSpec

SPEC = ModelSpec((TensorSpec("request", BY_NAME["BYTES"], (-1,)),), (TensorSpec("answer", BY_NAME["BYTES"], (-1,)),))
"""What a script looks like to the scheduler: rows that nobody looks into."""

BY_CODE: dict[str, type[SlipwayError]] = {
    kind.code: kind
    for kind in (
        *(errors.MalformedInput, errors.UnsupportedMedia, errors.NotAcceptable, errors.UnprocessableInput),
        *(errors.OutOfMemory, errors.DeadlineExceeded, errors.NotReady, errors.ModelFailed),
    )
}
"""The errors that may cross from a worker process, by what is written of them."""


@dataclass(slots=True)
class Call:
    """One request as a script sees it.

    ``content_type`` is lower case and without parameters, or None where the request named none; ``charset`` is that
    parameter. ``accept`` is one concrete media type. ``deadline_ns`` is of ``perf_counter_ns`` of the server.
    """

    body: bytes
    content_type: str | None
    accept: str
    headers: Headers = field(default_factory=list)
    request_id: str = ""
    charset: str = "utf-8"
    deadline_ns: int = NEVER


@dataclass(slots=True)
class Answer:
    """What a script made of a call: a body of some status, or an error of ours.

    ``decode_ns`` and ``encode_ns`` are what ``input_fn`` and ``output_fn`` took.
    """

    body: bytes = b""
    content_type: str = ""
    status: int = 200
    headers: Headers = field(default_factory=list)
    error: SlipwayError | None = None
    decode_ns: int = field(default=0, compare=False)
    encode_ns: int = field(default=0, compare=False)

    @property
    def pending(self) -> bool:
        """Whether nothing has become of the call yet."""
        return self.error is None and not self.content_type


def as_array(rows: Sequence[Any]) -> Array:
    """Objects as an array [len(rows)], without a look into them."""
    array = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        array[index] = row
    return array
