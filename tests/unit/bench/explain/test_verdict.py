"""The verdict: its ranking, its names, and its form in JSON."""

from __future__ import annotations

import orjson

from bench.explain import verdict
from bench.explain.verdict import Cause, Gain


def cause(name: str, confidence: str = verdict.LIKELY, high: float | None = 1.0) -> Cause:
    return Cause(name, confidence, ("evidence",), "do this", Gain(0.0, high), "python -m bench run URL")


def test_certainty_comes_before_gain_and_gain_orders_the_rest() -> None:
    found = [cause("codec", high=5), cause("serial", high=50), cause("stall", verdict.PROVEN, 1), cause("none", high=1)]
    ranked = verdict.rank(found).causes
    assert [one.name for one in ranked] == ["stall", "serial", "codec"]


def test_a_cause_without_a_known_gain_comes_last_of_its_confidence() -> None:
    assert [one.name for one in verdict.rank([cause("codec", high=None), cause("serial")]).causes] == [
        "serial",
        "codec",
    ]


def test_the_json_has_the_promised_fields() -> None:
    written = orjson.loads(orjson.dumps(verdict.rank([cause("codec")], ["stall"])))
    assert set(written["causes"][0]) == {"name", "confidence", "evidence", "do", "gain", "prove"}
    assert set(written["causes"][0]["gain"]) == {"low", "high", "unit"}
    assert written["ruled_out"] == ["stall"]


def test_every_name_and_confidence_has_words() -> None:
    assert set(verdict.TITLES) == set(verdict.NAMES)
    assert set(verdict.CONFIDENCE_WORDS) == set(verdict.CONFIDENCES)
