"""Warm-up: what is run before the first request, what it costs, and which samples it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.artifact import SAMPLES, Artifact, Batching, CostPoint
from server.errors import BrokenArtifact, UnprocessableInput
from server.models.load import warmup
from server.models.load.warmup import (
    LONG_RUN_NS,
    MOST_RUNS,
    UNMEASURED_NS,
    WARM_BUDGET_NS,
    WARM_RUNS,
    Seeds,
    sample_of,
    warm_up,
)
from server.tensors import Array
from tests.fake_sessions import Scripted, bare, declared, spec, write_samples
from tests.fakes import FakeClock

MS = 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    made = FakeClock()
    monkeypatch.setattr(warmup, "perf_counter_ns", made)
    return made


def warm(session: Scripted, artifact: Artifact, batching: Batching) -> tuple[int, Seeds]:
    return warm_up(session, artifact, batching, sample_of(session, artifact))


class Refusing(Scripted):
    """Takes rows of at least 64 values."""

    def run(self, batch: Sequence[Array]) -> list[Array]:
        if batch[0].shape[1] < 64:
            raise UnprocessableInput("too few values")
        return super().run(batch)


class TestWarmUp:
    SIZES = Batching((1, 2, 4, 8))

    def test_every_batch_size_is_run_and_measured(self, clock: FakeClock) -> None:
        session = Scripted(clock, cost_ns=lambda rows: 1000 + 10 * rows)
        largest, seeds = warm(session, declared(), self.SIZES)
        assert largest == 8
        assert seeds == [(size, 1000 + 10 * size) for size in self.SIZES.batch_sizes]
        assert len(session.seen) == 1 + 4 * (1 + MOST_RUNS)

    def test_the_first_run_does_not_count(self, clock: FakeClock) -> None:
        costs = iter([0, 1, 5 * MS, 9 * MS, 4 * MS, 7 * MS, 6 * MS])
        session = Scripted(clock, cost_ns=lambda rows: next(costs))
        assert warm(session, declared(), Batching((1,))) == (1, [(1, 4 * MS)])

    @pytest.mark.parametrize("cost_ms", [0.02, 3, 15])
    @given(data=st.data())
    def test_noise_in_all_runs_but_one_of_each_size_changes_nothing(self, cost_ms: float, data: st.DataObject) -> None:
        clock, true_ns = FakeClock(), {size: int(cost_ms * MS) + 1000 * size for size in self.SIZES.batch_sizes}
        spared = {size: data.draw(st.integers(2, WARM_RUNS + 1)) for size in true_ns}
        counts: Counter[int] = Counter()

        def cost_ns(rows: int) -> int:
            counts[rows] += 1
            noisy = counts[rows] != spared[rows]
            return true_ns[rows] + (data.draw(st.integers(0, 4 * MS)) if noisy else 0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(warmup, "perf_counter_ns", clock)
            sample = [np.ones((1, 4), np.float32)]
            seeds = warm_up(Scripted(clock, cost_ns=cost_ns), declared(), self.SIZES, sample)[1]
        assert dict(seeds) == true_ns

    def test_a_slow_model_is_measured_at_fewer_sizes_and_keeps_its_largest_batch(self, clock: FakeClock) -> None:
        session = Scripted(clock, cost_ns=lambda rows: WARM_BUDGET_NS // 5 * rows)
        largest, seeds = warm(session, declared(), self.SIZES)
        assert largest == 8
        assert [size for size, _ in seeds] == [1, 2]
        assert session.sizes == [1, 2]

    def test_synthetic_rows_have_eight_of_everything_variable(self, clock: FakeClock) -> None:
        session = Scripted(clock, spec(inputs=(-1, -1, 3), dtype="INT64"))
        warm(session, bare(), Batching((1, 2)))
        assert {batch[0].shape for batch in session.seen} == {(1, 8, 3), (2, 8, 3)}
        assert {int(value) for batch in session.seen for value in batch[0].flat} == {0, 1}

    def test_synthetic_texts_are_short_and_distinct(self, clock: FakeClock) -> None:
        session = Scripted(clock, spec(dtype="BYTES"))
        warm(session, bare(), Batching((2,)))
        assert session.seen[-1][0].tolist() == [["0", "1", "2", "3"], ["4", "5", "6", "7"]]

    def test_a_size_that_is_refused_before_gives_way_to_another(self, clock: FakeClock) -> None:
        session = Refusing(clock, spec(inputs=(-1, -1)))
        assert sample_of(session, bare())[0].shape[1] == 64

    def test_long_runs_that_were_done_before_are_not_repeated(self, clock: FakeClock) -> None:
        session = Scripted(clock, cost_ns=lambda rows: LONG_RUN_NS * rows)
        known = {1: 2 * LONG_RUN_NS, 2: 3 * LONG_RUN_NS}
        sample = [np.ones((1, 4), np.float32)]
        assert warm_up(session, declared(), Batching((1, 2)), sample, known)[1] == list(known.items())
        assert session.seen == []

    def test_a_cheap_model_whose_proof_took_all_the_time_keeps_its_large_batches(self, clock: FakeClock) -> None:
        """A proof with 100,000 rows took two seconds, and requests of as many ran row by row from then on."""
        session = Scripted(clock, cost_ns=lambda rows: 20_000)
        sample, sizes = [np.ones((1, 4), np.float32)], Batching((1, 2, 100_000))
        _, seeds = warm_up(session, declared(), sizes, sample, {100_000: MS}, 2 * WARM_BUDGET_NS)
        assert seeds == [(1, 20_000), (100_000, MS)]
        assert session.sizes == [1]

    def test_a_model_without_a_batch_axis_is_run_as_it_is(self, clock: FakeClock) -> None:
        session = Scripted(clock, spec(inputs=(2, 4), outputs=(2, 4)), cost_ns=lambda rows: 70)
        assert warm(session, bare(), self.SIZES) == (1, [(1, 70)])
        assert session.seen[0][0].shape == (2, 4)

    def test_sizes_beyond_the_sweep_come_from_the_manifest_scaled_to_this_machine(self, clock: FakeClock) -> None:
        manifest_costs = (CostPoint(1, 10.0, 11.0), CostPoint(4, 20.0, 21.0), CostPoint(8, 30.0, 31.0))
        session = Scripted(clock, cost_ns=lambda rows: WARM_BUDGET_NS)
        artifact = declared()
        artifact = replace(artifact, manifest=replace(artifact.manifest, cost=manifest_costs))
        _, seeds = warm(session, artifact, self.SIZES)
        assert seeds == [(1, WARM_BUDGET_NS), (4, 2 * WARM_BUDGET_NS), (8, 3 * WARM_BUDGET_NS)]

    def test_a_bare_model_that_refuses_everything_made_up_is_served_unmeasured(self, clock: FakeClock) -> None:
        assert warm(Scripted(clock, largest=0), bare(), self.SIZES) == (
            8,
            [(1, UNMEASURED_NS), (8, UNMEASURED_NS)],
        )

    def test_a_bare_model_that_refuses_a_size_is_never_given_one_above_its_largest(self, clock: FakeClock) -> None:
        session = Scripted(clock, cost_ns=lambda rows: 70, largest=2)
        assert warm(session, bare(), self.SIZES) == (2, [(1, 70), (2, 70)])

    def test_an_artifact_that_cannot_run_a_size_that_it_names_is_broken(self, clock: FakeClock) -> None:
        with pytest.raises(BrokenArtifact, match="cannot run its own samples at batch size 4: too many rows"):
            warm(Scripted(clock, largest=2), declared(), self.SIZES)

    def test_samples_of_the_artifact_are_repeated_to_every_size(self, clock: FakeClock, tmp_path: Path) -> None:
        rows = np.arange(8, dtype=np.float32).reshape(2, 4)
        write_samples(tmp_path, rows)
        session = Scripted(clock)
        warm(session, declared(tmp_path), Batching((1, 3)))
        np.testing.assert_array_equal(session.seen[0][0], rows[:1])
        np.testing.assert_array_equal(session.seen[-1][0], rows[[0, 1, 0]])
        assert session.seen[0][0].dtype == np.float32

    def test_samples_are_given_in_the_models_dtype_and_shape(self, clock: FakeClock, tmp_path: Path) -> None:
        write_samples(tmp_path, np.float64(3))
        model = spec(inputs=(), outputs=(1, 4))
        session = Scripted(clock, model)
        warm(session, declared(tmp_path, model), Batching((1,)))
        assert session.seen[0][0].shape == ()
        assert session.seen[0][0].dtype == np.float32

    def test_samples_of_texts(self, clock: FakeClock, tmp_path: Path) -> None:
        write_samples(tmp_path, np.array([["a", "b", "c", "d"]]))
        model = spec(dtype="BYTES")
        session = Scripted(clock, model)
        warm(session, declared(tmp_path, model), Batching((1,)))
        assert session.seen[0][0].dtype == object
        assert session.seen[0][0].tolist() == [["a", "b", "c", "d"]]

    def test_samples_that_lack_an_input_are_refused(self, tmp_path: Path) -> None:
        write_samples(tmp_path, np.zeros(4, np.float32), name="other")
        with pytest.raises(BrokenArtifact, match=r"samples\.npz lacks an input: .*input:x"):
            warm(Scripted(), declared(tmp_path), self.SIZES)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"garbage", b"\x93NUMPY\x01\x00"])
    def test_unreadable_samples_are_refused(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / SAMPLES).write_bytes(content)
        with pytest.raises(BrokenArtifact, match=r"samples\.npz cannot be read"):
            warm(Scripted(), declared(tmp_path), self.SIZES)

    def test_samples_that_are_one_array_or_pickled_or_not_numbers_are_refused(self, tmp_path: Path) -> None:
        texts, pickled = np.array([["a", "b", "c", "d"]]), np.array([{}], object)
        with (tmp_path / SAMPLES).open("wb") as file:
            np.save(file, np.zeros(4))
        with pytest.raises(BrokenArtifact, match=r"samples\.npz cannot be read"):
            warm(Scripted(), declared(tmp_path), self.SIZES)
        for wrong in (texts, pickled):
            write_samples(tmp_path, wrong)
            with pytest.raises(BrokenArtifact, match=r"samples\.npz cannot be read"):
                warm(Scripted(), declared(tmp_path), self.SIZES)
