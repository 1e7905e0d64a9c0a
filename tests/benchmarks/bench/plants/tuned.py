"""The tuned plants: those that the rules of the verdict were made with, or mended for after a first measurement."""

from __future__ import annotations

from dataclasses import replace

from . import fifth_slipway
from .tuned_foreign import ON_OTHERS
from .tuned_slipway import ON_SLIPWAY

TUNED = (*ON_SLIPWAY, *ON_OTHERS, *fifth_slipway.ON_SLIPWAY)
PADDING = "Slipway: padding, eight callers"
SHORT_TITLES = (
    *("FastAPI: lock around a sleep", "FastAPI: batch timer", "FastAPI: connections closed", "FastAPI: far away"),
    *("FastAPI: large JSON reply", "Slipway: batch timer", "Slipway: SIGSTOP", PADDING),
    *("Slipway: cold start", "Slipway: long inputs"),
)
"""The short form: each is far from the limits of the rules, and no other program of the machine can be its cause."""
SHORT = tuple(
    replace(one, right=one.right[:1], options=(*one.options, "--skip-calibration"))
    for one in TUNED
    if one.title in SHORT_TITLES
)
