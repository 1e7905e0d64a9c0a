"""The end of a server: how long its drain takes, by the variables of its environment."""

from __future__ import annotations

import math

from .description import Description
from .errors import InvalidDescription

GRACE_S, DRAIN_S = 5.0, 20.0
"""SLIPWAY_DRAIN_GRACE_S of the image, and the server's default of SLIPWAY_DRAIN_TIMEOUT_S."""


def grace_s(description: Description) -> float:
    """Seconds after SIGTERM in which the server still takes requests."""
    return _seconds(description, "SLIPWAY_DRAIN_GRACE_S", GRACE_S)


def drain_s(description: Description) -> float:
    """Seconds after that in which it finishes the running ones."""
    return _seconds(description, "SLIPWAY_DRAIN_TIMEOUT_S", DRAIN_S)


def _seconds(description: Description, name: str, default: float) -> float:
    text = description.environment.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e6:
        raise InvalidDescription(f"--env {name}={text}: it takes a number of seconds")
    return value
