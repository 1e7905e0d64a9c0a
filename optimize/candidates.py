"""The candidates: what is worth trying on this hardware, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FLOAT32 = "float32"
"""Name of the reference among the candidates: it takes part, and it is what remains when nobody beats it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row: the pass that makes it and that pass's options. ``about`` is for the report."""

    name: str
    recipe: str
    about: str
    options: Mapping[str, str | bool] = field(default_factory=dict)


CANDIDATES: tuple[Candidate, ...] = (
    Candidate(
        "dynamic_int8",
        "dynamic_int8_from_float32",
        "matrix products in int8, ranges of activations found anew in every run",
        {"per_channel": False},
    ),
    Candidate(
        "dynamic_int8_per_channel",
        "dynamic_int8_from_float32",
        "the same with one weight scale for each output channel",
        {"per_channel": True},
    ),
    Candidate(
        "static_int8",
        "static_qdq_from_float32",
        "convolutions and matrix products in int8, ranges from the extremes seen in calibration",
        {"calibrate": "minmax"},
    ),
    Candidate(
        "static_int8_percentile",
        "static_qdq_from_float32",
        "the same with ranges that leave out the rarest extremes",
        {"calibrate": "percentile"},
    ),
)
"""Half-precision floats are missing on purpose: on a processor they bring casts and no speed. Signed 8-bit activations
too: the quantizer's default, measured at half the speed of float32 on x86."""
