"""The surface of everything that takes the requests of one version of a model: a scheduler, or a pipeline of them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from ..request import InferRequest


class Intake(Protocol):
    """Takes requests and ends each exactly once.

    ``refusing``: the last request was refused for load. Then :meth:`foresee` is called for the next request before its
    body is decoded.
    """

    refusing: bool

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

    def stop(self) -> None:
        """Refuse new requests and end the running batches. Blocks: not for the event loop."""
        ...

    def abandon(self) -> None:
        """After :meth:`stop`, on the event loop: end all waiting requests with NotReady."""
        ...
