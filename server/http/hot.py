"""The hot path: the state that all connections share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..lifecycle import Lifecycle, Phase
from ..protocols import Handler
from .limits import Connections, ProcessAccount
from .responses import ResponseHeads

HotTable = dict[bytes, dict[bytes, Handler]]
"""URL to method to handler, for exact URLs without a query."""


@dataclass(slots=True)
class HotPath:
    """The hot routes and the limits of every connection. ``table`` may change while requests are served.

    ``refused`` counts, by the code of their error, requests that the connection itself refused.
    """

    lifecycle: Lifecycle
    max_body_bytes: int = 30_000_000
    max_head_bytes: int = 32_768
    read_timeout_s: float = 30.0
    keep_alive_s: float = 120.0
    access_log: bool = False
    table: HotTable = field(default_factory=dict)
    heads: ResponseHeads = field(default_factory=ResponseHeads)
    account: ProcessAccount = field(default_factory=ProcessAccount)
    connections: Connections = field(default_factory=Connections)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def draining(self) -> bool:
        """Whether each response closes its connection."""
        return self.lifecycle.phase is Phase.DRAINING
