"""The queue's decisions in virtual time. Figures are exact for a seed, so a worse decision fails the test."""

from __future__ import annotations

import pytest

from tests.queue_decisions import figures


@pytest.mark.parametrize("seed", [0, 1])
def test_mixed_shapes_overload_and_deadlines_are_served_as_promised(seed: int) -> None:
    short = [str(one) for one in figures(seed) if one.reached < one.wanted and "deepest" not in one.name]
    assert short == []


def test_the_queue_does_not_grow_with_what_is_offered() -> None:
    (deepest,) = [one for one in figures(2) if "deepest" in one.name]
    assert deepest.reached <= deepest.wanted
