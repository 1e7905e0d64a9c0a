"""The cheap gate: rejects broken candidates after a few rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from server.tensors import Array

from .evaluate import sqnr_db
from .metrics import METRICS, Outputs

ROWS = 32

LEAST_SQNR_DB = 0.0
"""Below this the error is larger than the signal, which is a broken conversion for every metric."""

LEAST_AGREEMENT = 0.5
"""A classifier that disagrees with float32 on more rows than this is broken; smaller losses are left to the metric."""


def head(expected: Outputs, got: Outputs) -> Mapping[str, Array]:
    """The rows of ``expected`` that ``got`` has."""
    return {name: array[: len(got[name])] for name, array in expected.items()}


def incomparable(got: Outputs, expected: Outputs) -> str | None:
    """Why ``got`` cannot be compared with ``expected``: other names, shapes, types, or values that are not finite."""
    if list(got) != list(expected):
        return f"broken: its outputs are {', '.join(got)} instead of {', '.join(expected)}"
    for name, cut in head(expected, got).items():
        if got[name].shape != cut.shape or got[name].dtype != cut.dtype:
            return f"broken: output {name!r} is {got[name].dtype}{list(got[name].shape)}"
        if not np.isfinite(got[name][np.isfinite(cut)]).all():
            return f"broken: output {name!r} is not finite"
    return None


def too_noisy(got: Outputs, expected: Outputs, classifies: bool) -> str | None:
    """Why comparable outputs are broken: more noise than signal, or mostly other classes."""
    cut = head(expected, got)
    noise = sqnr_db(got, cut)
    if noise < LEAST_SQNR_DB:
        return f"broken: its error is larger than the signal ({noise:.1f} dB)"
    if classifies:
        agreeing = METRICS["agreement"].scores(got, cut, None)
        if agreeing.mean() < LEAST_AGREEMENT:
            return f"broken: it agrees with float32 on {agreeing.mean():.0%} of {len(agreeing)} rows"
    return None
