"""The forecasts that were tried: a table of the log of verifications."""

from __future__ import annotations

from collections.abc import Sequence

from ..explain.ratio import Ratio
from ..result.verifications import Verification
from .words import table

HEADS = ("change", "percentile", "forecast", "observed", "")


def forecasts(log: Sequence[Verification]) -> str:
    """The verifications of a record, the newest first, as times of the value before; empty without any."""
    rows = []
    for one in reversed(log):
        for name, told in one.forecast.items():
            seen = one.observed.get(name)
            if seen is not None:
                held = "held" if told.low <= seen.value <= told.high else "missed"
                rows.append((one.change, name, _words(told), _words(seen), held))
    return table(HEADS, rows) if rows else ""


def _words(ratio: Ratio) -> str:
    return f"x{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
