"""The queue's decisions in virtual time. Figures are exact for a seed, so a worse decision fails the test."""

from __future__ import annotations

import pytest

from tests.queue_decisions import figures


@pytest.mark.slow
def test_mixed_shapes_overload_and_deadlines_are_served_as_promised() -> None:
    found = figures()
    (deepest,) = [one for one in found if "deepest" in one.name]
    assert [str(one) for one in found if one.reached < one.wanted and one is not deepest] == []
    assert deepest.reached <= deepest.wanted, "the queue grows with what is offered"
