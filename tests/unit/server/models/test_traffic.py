"""Traffic between versions: who answers, what is counted, and that a shadow is seen by nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from server.artifact import Artifact, Manifest
from server.errors import MalformedInput, ModelFailed, Overloaded
from server.models import ServedModel
from server.models.traffic import MOST_PENDING, Canary, Rules, Shadow, difference
from server.request import InferRequest
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.fake_models import PLAIN, Asked, FakeLoader, head, scheduler_of, session_of
from tests.fakes import FakeClock

MS = 1_000_000


def model(version: str, spec: ModelSpec = PLAIN) -> ServedModel:
    loader = FakeLoader()
    loader.spec = spec
    loop = asyncio.new_event_loop()
    try:
        return loader.build(Artifact(Path("/nowhere"), Manifest("m", version, "fake", "model.json", spec)), loop)
    finally:
        loop.close()


@pytest.fixture
def pair() -> tuple[ServedModel, ServedModel]:
    return model("1"), model("2")


Two = tuple[ServedModel, ServedModel]


class TestCanary:
    @pytest.mark.parametrize("percent", [0.5, 10.0, 33.0, 50.0, 100.0])
    def test_without_ids_the_share_is_exact_and_even(self, pair: Two, percent: float) -> None:
        canary = Canary(*pair, percent, Rules())
        chosen = [canary.choose(head()).version == "2" for _ in range(2_000)]
        assert sum(chosen) == round(2_000 * percent / 100)
        first, second = sum(chosen[:1_000]), sum(chosen[1_000:])
        assert abs(first - second) <= 1

    def test_with_an_id_the_caller_keeps_the_version_whoever_else_calls(self, pair: Two) -> None:
        canary = Canary(*pair, 30.0, Rules())
        ids = [b"user-%d" % index for index in range(2_000)]
        first = [canary.choose(head(one)).version for one in ids]
        canary.choose(head())
        assert [canary.choose(head(one)).version for one in ids] == first
        assert 0.25 < first.count("2") / len(first) < 0.35

    def test_a_larger_share_keeps_everybody_that_a_smaller_one_had(self, pair: Two) -> None:
        ids = [b"user-%d" % index for index in range(500)]
        few, more = Canary(*pair, 10.0, Rules()), Canary(*pair, 40.0, Rules())
        assert {one for one in ids if few.choose(head(one)).version == "2"} <= {
            one for one in ids if more.choose(head(one)).version == "2"
        }

    def test_latencies_are_judged_against_the_stable_version_from_enough_answers_on(self, pair: Two) -> None:
        clock = FakeClock()
        canary = Canary(*pair, 50.0, Rules(latency=2.0, least=4), clock)
        canary.attach()
        for index in range(8):
            assert canary.verdict() is None
            one = canary.choose(head())
            asked = Asked().submit(one)
            clock.now_ns += (5 if one.version == "2" else 2) * MS
            scheduler_of(one).serve()
            one.metrics.answers["ok"] += 1
            assert len(asked.ended) == 1, index
        assert canary.verdict() == "p95 5.00 ms against 2.00 ms over 4 answers"

    def test_what_the_caller_did_wrong_is_not_the_versions_fault(self, pair: Two) -> None:
        canary = Canary(*pair, 50.0, Rules(error_rate=0.01, least=1))
        for one in pair:
            one.metrics.answers["ok"] += 10
        pair[1].metrics.answers["malformed_input"] += 10
        assert canary.verdict() is None
        pair[1].metrics.answers["overloaded"] += 1
        assert canary.verdict() == "error rate 4.8% against 0.0% over 21 answers"

    def test_versions_that_take_different_inputs_are_not_compared(self, pair: Two) -> None:
        other = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 5)),), PLAIN.outputs)
        with pytest.raises(MalformedInput, match="do not take the same inputs"):
            Canary(pair[0], model("3", other), 10.0, Rules())
        with pytest.raises(MalformedInput, match="cannot be compared with itself"):
            Shadow(pair[0], pair[0])


class TestShadow:
    def start(self, pair: Two, percent: float = 100.0) -> Shadow:
        shadow = Shadow(*pair, percent)
        shadow.attach()
        return shadow

    @pytest.mark.parametrize("shadow_first", [True, False])
    def test_the_caller_gets_the_stable_answer_once_and_the_other_is_compared(
        self, pair: Two, shadow_first: bool
    ) -> None:
        stable, other = pair
        session_of(other).factor = 2.5
        shadow = self.start(pair)
        asked = Asked().submit(stable)
        for one in reversed(pair) if shadow_first else pair:
            scheduler_of(one).serve()
        assert asked.answer == 2.0
        assert shadow.outcomes == {"different": 1}
        assert shadow.largest_difference == 0.5

    def test_answers_within_the_tolerance_are_the_same(self, pair: Two) -> None:
        session_of(pair[1]).factor = 2.0001
        shadow = self.start(pair)
        Asked().submit(pair[0])
        for one in pair:
            scheduler_of(one).serve()
        assert (shadow.outcomes, shadow.largest_difference) == ({"same": 1}, 0.0)

    def test_a_shadow_that_fails_refuses_or_is_behind_is_counted_and_felt_by_nobody(self, pair: Two) -> None:
        stable, other = pair
        shadow = self.start(pair)
        asked = [Asked().submit(stable) for _ in range(MOST_PENDING + 3)]
        scheduler_of(other).serve(ModelFailed("no"))
        scheduler_of(other).full = Overloaded("full", 1)
        scheduler_of(stable).serve()
        asked.append(Asked().submit(stable))
        scheduler_of(stable).serve()
        assert [one.answer for one in asked] == [2.0] * (MOST_PENDING + 4)
        assert shadow.outcomes == {"failed": MOST_PENDING, "skipped": 4}

    def test_an_answer_that_cannot_be_delivered_does_not_stop_the_comparison(self, pair: Two) -> None:
        shadow = self.start(pair)

        def fall_over(request: InferRequest) -> None:
            raise RuntimeError

        asked = Asked()
        asked.request.done = fall_over
        asked.submit(pair[0])
        scheduler_of(pair[1]).serve()
        with pytest.raises(RuntimeError):
            scheduler_of(pair[0]).serve()
        assert shadow.outcomes == {"same": 1}

    def test_a_part_of_the_requests_can_be_copied(self, pair: Two) -> None:
        self.start(pair, 25.0)
        for _ in range(8):
            Asked().submit(pair[0])
        assert scheduler_of(pair[1]).waiting_rows == 2


class TestDifference:
    def test_of_numbers_texts_and_shapes(self) -> None:
        ones = np.ones((2, 2), np.float32)
        assert difference([ones], [ones + np.float32(1e-4)]) is None
        assert difference([ones], [ones * 3]) == 2.0
        assert difference([ones], [ones[:1]]) == float("inf")
        assert difference([ones * np.nan], [ones * np.nan]) is None
        assert difference([ones * np.nan], [ones]) == float("inf")
        texts = np.array(["a", "b"], object)
        assert difference([texts], [texts.copy()]) is None
        assert difference([texts], [texts[::-1]]) == float("inf")
