"""Optimization profiles: closed shapes become ranges, at most so many, and together they hold every closed shape."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.passes.profiles import Shapes, of

IMAGE = {"image": (-1, 3, 8, 8)}
TEXT = {"ids": (-1, -1), "mask": (-1, -1), "scale": (1,)}


def test_every_number_of_rows_has_a_profile_that_is_tuned_for_it() -> None:
    assert of(IMAGE, (1, 8)) == [
        {"image": Shapes((1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8))},
        {"image": Shapes((8, 3, 8, 8), (8, 3, 8, 8), (8, 3, 8, 8))},
    ]


def test_lengths_are_a_range_within_each_profile_and_fixed_inputs_stay() -> None:
    (found,) = of(TEXT, (4,), (16, 64, 32))
    assert found["ids"] == found["mask"] == Shapes((4, 16), (4, 64), (4, 64))
    assert found["scale"] == Shapes((1,), (1,), (1,))


def test_beyond_the_most_the_smallest_rows_share_a_profile() -> None:
    found = of(IMAGE, (1, 2, 4, 8, 16), most=3)
    assert [(one["image"].least[0], one["image"].largest[0]) for one in found] == [(1, 4), (8, 8), (16, 16)]


SIZES = st.lists(st.integers(1, 64), min_size=1, max_size=9)


@given(SIZES, SIZES, st.integers(1, 6))
def test_every_closed_shape_is_in_exactly_one_profile_of_an_input(
    rows: list[int], lengths: list[int], most: int
) -> None:
    found = [one["ids"] for one in of(TEXT, rows, lengths, most)]
    assert len(found) <= most
    for shape in itertools.product(rows, lengths):
        holding = [
            one for one in found if all(a <= b <= c for a, b, c in zip(one.least, shape, one.largest, strict=True))
        ]
        assert len(holding) == 1
    assert all(one.least <= one.usual <= one.largest for one in found)


@pytest.mark.parametrize(
    ("inputs", "rows", "lengths", "most"),
    [(IMAGE, (), (), 6), (IMAGE, (0, 1), (), 6), (TEXT, (1,), (), 6), (TEXT, (1,), (0,), 6), (IMAGE, (1,), (), 0)],
)
def test_what_makes_no_profile_is_refused(
    inputs: dict[str, tuple[int, ...]], rows: tuple[int, ...], lengths: tuple[int, ...], most: int
) -> None:
    with pytest.raises(ValueError, match=r"at least 1|no lengths"):
        of(inputs, rows, lengths, most)
