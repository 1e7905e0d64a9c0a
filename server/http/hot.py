"""The hot path: the state that all connections share."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..lifecycle import Lifecycle, Phase
from ..protocols import Handler
from .responses import ResponseHeads

HotTable = dict[bytes, dict[bytes, Handler]]
"""URL to method to handler, for exact URLs without a query."""


@dataclass(slots=True)
class HotPath:
    """The hot routes and the limits of every connection. ``table`` may change while requests are served."""

    lifecycle: Lifecycle
    max_body_bytes: int = 30_000_000
    read_timeout_s: float = 30.0
    keep_alive_s: float = 120.0
    access_log: bool = False
    table: HotTable = field(default_factory=dict)
    heads: ResponseHeads = field(default_factory=ResponseHeads)

    @property
    def draining(self) -> bool:
        """Whether each response closes its connection."""
        return self.lifecycle.phase is Phase.DRAINING
