"""The surface of everything that takes the requests of one version of a model: a scheduler, or a pipeline of them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from ..errors import SlipwayError
from ..request import InferRequest


class Intake(Protocol):
    """Takes requests and ends each exactly once.

    ``refusing``: the last request was refused for load. Then :meth:`foresee` is called for the next request before its
    body is decoded.
    """

    refusing: bool

    @property
    def stalled(self) -> str:
        """Why the requests that it holds make no progress; empty when they do. While stalled it refuses requests."""
        ...

    def check(self) -> None:
        """Look for lost progress, and set :attr:`stalled`. Called about once a second, on the event loop."""
        ...

    def foresee(self, deadline_ns: int) -> None:
        """Raises Overloaded where even a request of one row could not be admitted now, whatever its body holds."""
        ...

    def submit(self, request: InferRequest, shape: Hashable = None) -> None:
        """Admit a request. Raises Overloaded or NotReady; then the request is not ended."""
        ...

    def backlog_ns(self) -> int:
        """Predicted wait, in nanoseconds, of a request that arrives now."""
        ...

    @property
    def waiting_rows(self) -> int:
        """Rows for which a run has still to be started."""
        ...

    def cost_points(self) -> list[tuple[int, int, int]]:
        """(bucket size, batch size, nanoseconds) as learnt up to now."""
        ...

    def stop(self, patience_s: float | None = None) -> bool:
        """Refuse new requests and wait for the running batches, for ``patience_s`` at most (None: for ever). Returns
        whether they have ended. Blocks: not for the event loop."""
        ...

    def abandon(self) -> None:
        """After :meth:`stop`, on the event loop: end all requests that are left with NotReady."""
        ...

    def fail(self, error: SlipwayError) -> None:
        """End all requests that wait or run with an error, which new ones get from now on. On the event loop."""
        ...
