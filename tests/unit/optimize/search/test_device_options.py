"""Device options: what is measured, and what a change of them has to show."""

from __future__ import annotations

from optimize.evaluation.bootstrap import Interval
from optimize.search.device_options import combinations, fastest


def test_what_was_used_so_far_is_measured_first_and_nothing_is_searched_without_convolutions() -> None:
    assert combinations(convolutions=True)[0] == {"cudnn_conv_algo_search": "HEURISTIC", "graphs": True}
    assert len(combinations(convolutions=True)) == 4
    assert {one["cudnn_conv_algo_search"] for one in combinations(convolutions=False)} == {"HEURISTIC"}


def test_another_choice_must_be_shown_to_be_faster() -> None:
    ratios = {
        "first": Interval(1.0, 1.0, 1.0),
        "wide": Interval(1.5, 0.9, 2.0),
        "slight": Interval(1.01, 1.005, 1.015),
        "faster": Interval(1.1, 1.05, 1.2),
        "fastest": Interval(1.2, 1.1, 1.3),
    }
    assert fastest(list(ratios), ratios) == "fastest"
    assert fastest(["first", "wide", "slight"], ratios) == "first"
