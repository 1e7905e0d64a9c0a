"""The shot: what a load sends and where to, without its timing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .server_timing import Carrier
from .target import Target
from .wire import Wire

RENEW_S = 120.0
"""Between two calls of ``Shot.renew``. A signature of Amazon's is valid for five minutes."""


@dataclass(frozen=True, slots=True)
class Shot:
    """Everything about a load except its timing. ``timeout_s`` counts from the intended instant.

    ``choices``: uint16, the index into ``wires`` of each request, by its number and cyclic. ``renew`` makes the wires
    anew every ``RENEW_S`` seconds, in a thread, for signatures that expire; None for wires that stay valid.
    ``spare``: connections that are opened before a request needs them.
    """

    target: Target
    wires: tuple[Wire, ...]
    choices: NDArray[np.uint16]
    carrier: Carrier
    timeout_s: float
    max_connections: int
    renew: Callable[[], tuple[Wire, ...]] | None = None
    spare: int = 0
