"""The response cache: identical inputs are computed once, also while the first of them is still being computed."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from .errors import ClientGone, DeadlineExceeded, SlipwayError
from .request import InferRequest
from .tensors import Array

log = logging.getLogger("slipway.cache")

HIT, SHARED, MISS = "hit", "shared", "miss"
LARGEST_ENTRY_BYTES, MOST_STRINGS = 16_000_000, 100_000
"""Larger outputs, and more strings, are not kept: to count and to copy them would hold the event loop."""

PIECE = 5_000
"""Strings that are digested at a time."""

ENTRY_BYTES, ARRAY_BYTES = 400, 200
"""Memory of an entry beside its arrays, and of an array beside its values (CPython 3.11 to 3.13, NumPy 2)."""

Submit = Callable[[InferRequest], None]
Done = Callable[[InferRequest], None]


class ResponseCache:
    """Outputs by their inputs, for one version of one model; the least recently used are dropped first.

    A request whose inputs are being computed waits for that result (single flight). When the first request fails, the
    next one in line is computed: an error may belong to one request only. ``max_bytes`` counts the memory of the
    entries: values, strings, and the objects around them.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], int]) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[int, list[Array]]] = OrderedDict()
        self._flying: dict[bytes, tuple[tuple[Array, ...], list[InferRequest]]] = {}
        self.bytes = 0
        self.miss_ns = 0
        """Time of look-ups that found nothing."""
        self.outcomes: Counter[str] = Counter()

    def submit(self, request: InferRequest, submit: Submit) -> None:
        """Answer from memory, join a request that is being computed, or submit. Raises the errors of ``submit``."""
        begun_ns = self._clock()
        key = request.digest or digest(request.arrays)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            self._answer(request, kept[1], HIT)
        elif key in self._flying:
            arrays, followers = self._flying[key]
            request.arrays = arrays  # equal; its own are freed while it waits
            followers.append(request)
        else:
            self.miss_ns += self._clock() - begun_ns
            self._lead(key, request, submit, [])
            self.outcomes[MISS] += 1

    def clear(self) -> None:
        """Drop all that is kept."""
        self._kept.clear()
        self.bytes = 0

    def _lead(self, key: bytes, request: InferRequest, submit: Submit, followers: list[InferRequest]) -> None:
        """Submit a request whose outputs others wait for. Raises the errors of ``submit``; then none waits."""
        done = request.done
        request.done = lambda landed: self._land(key, landed, done, submit)
        self._flying[key] = request.arrays, followers
        try:
            submit(request)
        except Exception:
            del self._flying[key]
            request.done = done
            raise

    def _land(self, key: bytes, leader: InferRequest, done: Done, submit: Submit) -> None:
        """The leader has ended: its followers get its outputs, or the first of them is submitted. Raises nothing but
        the errors of ``done``."""
        _, followers = self._flying.pop(key)
        leader.done = done
        try:
            if leader.outputs is None or leader.error is not None:
                self._promote(key, followers, submit)
            else:
                self._share(key, followers, leader.outputs)
        except Exception as error:  # noqa: BLE001 - logged there
            for follower in followers:
                if not follower.ended:
                    follower.rescue(error)
        done(leader)

    def _share(self, key: bytes, followers: list[InferRequest], outputs: list[Array]) -> None:
        """Keep outputs, and answer the followers with them."""
        try:
            self._keep(key, outputs)
        except Exception:
            log.exception("keeping outputs in the response cache failed")
        for follower in followers:
            self._answer(follower, outputs, SHARED)

    def _promote(self, key: bytes, followers: list[InferRequest], submit: Submit) -> None:
        """Submit the first follower that is not abandoned; followers whose submission fails get the error."""
        while followers:
            heir = followers.pop(0)
            if heir.abandoned:
                _fail(heir, ClientGone("the client closed the connection before its answer was ready"))
                continue
            try:
                self._lead(key, heir, submit, followers)
            except SlipwayError as error:
                _fail(heir, error)
            except Exception:
                log.exception("submitting a request that waited for an identical one failed")
                _fail(heir, SlipwayError("the server failed on this request; its log has the details"))
            else:
                self.outcomes[MISS] += 1
                return

    def _answer(self, request: InferRequest, outputs: list[Array], outcome: str) -> None:
        now_ns = self._clock()
        if request.abandoned:
            _fail(request, ClientGone("the client closed the connection before its answer was ready"))
            return
        if now_ns > request.deadline_ns:
            _fail(request, DeadlineExceeded("the deadline passed while an identical request was computed"))
            return
        self.outcomes[outcome] += 1
        request.cached = outcome
        request.picked_ns = request.assembled_ns = request.computed_ns = request.scattered_ns = now_ns
        request.outputs = outputs
        request.end()

    def _keep(self, key: bytes, outputs: list[Array]) -> None:
        if sum(array.size for array in outputs if array.dtype.kind == "O") > MOST_STRINGS:
            return
        size = _size(outputs)
        if size > min(self._max_bytes, LARGEST_ENTRY_BYTES):
            return
        # A copy: outputs of a batch are views, and one row would keep the whole batch in memory
        self._kept[key] = size, [array.copy() for array in outputs]
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, (oldest_bytes, _) = self._kept.popitem(last=False)
            self.bytes -= oldest_bytes


def _size(outputs: Sequence[Array]) -> int:
    """Bytes of memory that an entry with these outputs takes."""
    strings = sum(sys.getsizeof(one) for array in outputs if array.dtype.kind == "O" for one in array.flat)
    return ENTRY_BYTES + sum(ARRAY_BYTES + array.nbytes for array in outputs) + strings


def digest(arrays: Sequence[Array]) -> bytes:
    """A digest of the shapes and bytes of all inputs (strings by their text): equal for identical requests."""
    state = hashlib.blake2b(digest_size=16)
    for array in arrays:
        state.update(repr(array.shape).encode())
        if array.dtype.kind != "O":
            state.update(array.data)
            continue
        flat = array.reshape(-1)
        for begin in range(0, len(flat), PIECE):
            state.update(repr([_shown(one) for one in flat[begin : begin + PIECE].tolist()]).encode())
    return state.digest()


def _shown(value: object) -> object:
    """The value itself, or all of an array: the text of a long one leaves values out."""
    return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def _fail(request: InferRequest, error: SlipwayError) -> None:
    request.error = error
    request.ended = False  # a refused submission has marked it, but here nothing else sends the error
    request.end()
