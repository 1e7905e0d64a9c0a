"""Drawn plants: a seed and a number always give the same plant, and each can be found by its title."""

from __future__ import annotations

from bench.explain.verdict import NAMES

from . import drawn
from .plant import SERVERS, SLIPWAY


def test_every_plant_is_found_by_its_title() -> None:
    plants = drawn.plants(7, 2 * len(drawn.KINDS))
    assert len({one.title for one in plants}) == len(plants)
    assert {one.server for one in plants} <= set(SERVERS)
    for one in plants:
        again = drawn.find(one.title)
        assert (again.title, again.right, again.rate, again.users) == (one.title, one.right, one.rate, one.users)
        assert set(one.right) <= set(NAMES)


def test_every_kind_is_drawn_on_slipway_and_elsewhere() -> None:
    plants = drawn.plants(3, 2 * len(drawn.KINDS))
    for at, (kind, servers) in enumerate(drawn.KINDS.items()):
        drawn_on = {plants[at].server == SLIPWAY, plants[at + len(drawn.KINDS)].server == SLIPWAY}
        assert drawn_on == ({True, False} if len(servers) > 1 else {True}), kind.__name__


def test_another_seed_draws_other_strengths() -> None:
    first, second = drawn.plants(1, 20), drawn.plants(2, 20)
    assert sum(one.rate == other.rate for one, other in zip(first, second, strict=True)) < 10
