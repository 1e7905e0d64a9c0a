"""What travels to a script and back: a call is one request, an answer is what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import errors
from ..errors import SlipwayError
from ..request import NEVER, Headers
from ..tensors import BY_NAME, Array, ModelSpec, TensorSpec

if TYPE_CHECKING:
    from .pieces import Pieces, Sink

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


class Session(Protocol):
    """What the requests of one caller share. ``data`` belongs to the script; ``over``: the session has ended. ``home``
    is set by whoever keeps the state elsewhere: at the end its ``forget`` is called, on the event loop."""

    id: str
    data: dict[str, Any]
    home: Home | None
    over: bool


class Home(Protocol):
    """Where the state of a session lives, when that is not in this process."""

    def forget(self, session: Session) -> None:
        """The session has ended."""
        ...


class Elsewhere:
    """The pieces of an answer that a worker process holds."""


@dataclass(slots=True)
class Call:
    """One request as a script sees it.

    ``content_type`` is lower case and without parameters, or None where the request named none; ``charset`` is that
    parameter. ``accept`` is one concrete media type. ``deadline_ns`` is of ``perf_counter_ns`` of the server, and what
    is left to the run; ``ends_ns`` is the caller's own. An answer in pieces may take ``piece_ns`` for each, and goes to
    ``sink``; None: it is put together.
    """

    body: bytes
    content_type: str | None
    accept: str
    headers: Headers = field(default_factory=list)
    request_id: str = ""
    charset: str = "utf-8"
    deadline_ns: int = NEVER
    ends_ns: int = NEVER
    piece_ns: int = NEVER
    sink: Sink | None = field(default=None, compare=False)
    session: Session | None = field(default=None, compare=False)


@dataclass(slots=True)
class Answer:
    """What a script made of a call: a body of some status, or an error of ours.

    ``decode_ns`` and ``encode_ns`` are what ``input_fn`` and ``output_fn`` took. With ``pieces`` the body is only the
    first one; what is there of it after a run is how far it came.
    """

    body: bytes = b""
    content_type: str = ""
    status: int = 200
    headers: Headers = field(default_factory=list)
    error: SlipwayError | None = None
    decode_ns: int = field(default=0, compare=False)
    encode_ns: int = field(default=0, compare=False)
    pieces: Pieces | Elsewhere | None = field(default=None, compare=False)

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
