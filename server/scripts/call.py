"""Calls and their responses: one request as a script receives it, and the body or error that comes back."""

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
    from .chunks import Chunks, ChunkSink

SPEC = ModelSpec((TensorSpec("request", BY_NAME["BYTES"], (-1,)),), (TensorSpec("answer", BY_NAME["BYTES"], (-1,)),))
"""The tensor spec that the scheduler sees for a script: one row for each call."""

BY_CODE: dict[str, type[SlipwayError]] = {
    kind.code: kind
    for kind in (
        *(errors.MalformedInput, errors.UnsupportedMedia, errors.NotAcceptable, errors.UnprocessableInput),
        *(errors.OutOfMemory, errors.DeadlineExceeded, errors.NotReady, errors.ModelFailed),
    )
}
"""The error classes that may cross the channel from a worker process, by code."""


class StatefulSession(Protocol):
    """A SageMaker session: state that several requests share.

    ``data`` belongs to the script. ``owner`` is set by a process pool that keeps the state in a worker; its ``forget``
    is called on the event loop when the session ends. ``over`` is True after the end.
    """

    id: str
    data: dict[str, Any]
    owner: StateOwner | None
    over: bool


class StateOwner(Protocol):
    """The holder of a session's state outside the server's process."""

    def forget(self, session: StatefulSession) -> None:
        """Drop the state of a session that has ended."""
        ...


class RemoteChunks:
    """Marks a response whose further chunks a worker process computes."""


@dataclass(slots=True)
class Call:
    """One request as a script receives it.

    ``content_type`` is lower case and without parameters, None if the request has none. ``charset`` is its parameter.
    ``accept`` is one concrete media type. Times are nanoseconds of the server's ``perf_counter_ns``: ``run_until_ns``
    limits the run, ``deadline_ns`` is the client's own and never ends a run, ``chunk_timeout_ns`` limits each chunk.
    Chunks go to ``sink``; without a sink they are joined into one body.
    """

    body: bytes
    content_type: str | None
    accept: str
    headers: Headers = field(default_factory=list)
    request_id: str = ""
    charset: str = "utf-8"
    deadline_ns: int = NEVER
    run_until_ns: int = NEVER
    chunk_timeout_ns: int = NEVER
    sink: ChunkSink | None = field(default=None, compare=False)
    session: StatefulSession | None = field(default=None, compare=False)


@dataclass(slots=True)
class ScriptResponse:
    """The result of a call: a body with its status, or an error.

    ``decode_ns`` and ``encode_ns`` are the durations of ``input_fn`` and ``output_fn``. With ``chunks``, ``body`` holds
    only the first chunk.
    """

    body: bytes = b""
    content_type: str = ""
    status: int = 200
    headers: Headers = field(default_factory=list)
    error: SlipwayError | None = None
    decode_ns: int = field(default=0, compare=False)
    encode_ns: int = field(default=0, compare=False)
    chunks: Chunks | RemoteChunks | None = field(default=None, compare=False)

    @property
    def pending(self) -> bool:
        """Whether the response is still empty: neither a body nor an error."""
        return self.error is None and not self.content_type


def as_array(rows: Sequence[Any]) -> Array:
    """An object array of shape [len(rows)] that holds the rows as they are."""
    array = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        array[index] = row
    return array
