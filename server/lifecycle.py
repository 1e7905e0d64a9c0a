"""The lifecycle: STARTING -> READY -> DRAINING -> STOPPED, or FAILED with the reason."""

from __future__ import annotations

import enum
from collections.abc import Callable

from .errors import NotReady, SlipwayError


class Phase(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


ALLOWED = {
    Phase.STARTING: {Phase.READY, Phase.DRAINING, Phase.FAILED},
    Phase.READY: {Phase.DRAINING, Phase.FAILED},
    Phase.DRAINING: {Phase.STOPPED, Phase.FAILED},
    Phase.STOPPED: set(),
    Phase.FAILED: {Phase.STOPPED},
}


class Lifecycle:
    """The phase of the server, which only moves forward, and its reason."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.reason = ""
        self.stalled = ""
        """Which models make no progress, and why; empty when all do. Then a server in READY is not ready."""
        self.held = ""
        """Why the server as a whole is not ready, while this process may be; empty where it is."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after each change."""

    @property
    def ready(self) -> bool:
        """Whether /ping says 200."""
        return self.phase is Phase.READY and not self.stalled and not self.held

    @property
    def own_reason(self) -> str:
        """Why this process is not ready; empty when it is."""
        return self.stalled if self.phase is Phase.READY else f"{self.phase.value} {self.reason}".strip()

    def move(self, phase: Phase, reason: str = "") -> None:
        """Enter a phase. A move backward is ignored, such as a load that ends during the drain."""
        if phase in ALLOWED[self.phase]:
            self.phase = phase
            self.reason = reason
            self.on_change()

    def stall(self, reason: str) -> None:
        """Say which models make no progress, and why; empty when all do."""
        if reason != self.stalled:
            self.stalled = reason
            self.on_change()

    def hold(self, reason: str) -> None:
        """Say why the server as a whole is not ready; empty when it is."""
        if reason != self.held:
            self.held = reason
            self.on_change()

    def instead_of(self, error: SlipwayError) -> SlipwayError:
        """NotReady in place of the refusal of a request without a model while the server starts; later the refusal."""
        return NotReady("the server is starting") if self.phase is Phase.STARTING else error

    def require_ready(self) -> None:
        """Raises NotReady with the reason unless /ping says 200."""
        if self.phase is Phase.READY and (self.stalled or self.held):
            raise NotReady(self.stalled or self.held)
        if not self.ready:
            raise NotReady(f"the server is {self.phase.value}" + (f": {self.reason}" if self.reason else ""))
