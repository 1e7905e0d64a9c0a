"""Tests that run only on request: skipped at collection, so that each is reported in its place, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest


def skip(items: Sequence[pytest.Item], marker: str, why_not: Callable[[], str | None]) -> None:
    """Skip the items with a marker where there is a reason. ``why_not`` is asked only if there are such items."""
    ours = [item for item in items if item.get_closest_marker(marker)]
    reason = why_not() if ours else None
    for item in ours:
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
