"""Limits: settings are taken as they are; without one the log says which limit is used, and why."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from server.artifact import Batching
from server.models.load import limits as module
from server.models.load.limits import (
    INLINE_LIMIT,
    USUAL_QUEUE_NS,
    SchedulingLimits,
    batching_for,
    bounded,
    inline_within,
)
from server.settings.options import Settings
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.fake_sessions import declared

MS = 1_000_000


def test_every_unit_is_converted_once() -> None:
    limits = SchedulingLimits.of(
        Settings(
            max_queue_ms=1.5,
            max_queue_mb=2.5,
            max_queue_delay_us=3,
            deadline_ms=4.5,
            stall_s=10.5,
            inline_below_us=5,
            tune_ms=6.5,
            cache_mb=7.5,
            script_timeout_s=8.5,
            script_worker_mb=9.5,
            max_rows=11,
        )
    )
    assert limits == SchedulingLimits(
        max_queue_ns=1_500_000,
        max_queue_bytes=2_500_000,
        max_queue_delay_ns=3_000,
        deadline_ns=4_500_000,
        stall_ns=10_500_000_000,
        inline_below_ns=5_000,
        tune_ns=6_500_000,
        cache_bytes=7_500_000,
        script_timeout_ns=8_500_000_000,
        script_worker_bytes=9_500_000,
        max_rows=11,
    )


@pytest.mark.parametrize("set_ms", [1.0, 100.0, 100_000.0])
def test_a_setting_holds_for_slow_models_and_for_scripts(set_ms: float, caplog: pytest.LogCaptureFixture) -> None:
    limits = SchedulingLimits.of(Settings(max_queue_ms=set_ms))
    with caplog.at_level(logging.INFO):
        assert limits.tensor_queue_ns("m", 60_000 * MS) == limits.script_queue_ns("m") == int(set_ms * MS)
    assert not caplog.records


def test_without_a_setting_a_raised_limit_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    limits = SchedulingLimits.of(Settings(script_timeout_s=60))
    with caplog.at_level(logging.INFO):
        assert limits.tensor_queue_ns("quick", 10 * MS) == USUAL_QUEUE_NS
        assert not caplog.records
        assert limits.tensor_queue_ns("slow", 4_000 * MS) == 8_000 * MS
        assert limits.script_queue_ns("script") == 30_000 * MS
    assert [record.getMessage().split(" reason=")[0] for record in caplog.records] == [
        "max_queue_ms raised model=slow max_queue_ms=8000",
        "max_queue_ms raised model=script max_queue_ms=30000",
    ]


def test_a_script_that_must_be_quick_is_not_given_less_than_the_usual_wait() -> None:
    assert SchedulingLimits.of(Settings(script_timeout_s=0.5)).script_queue_ns("m") == USUAL_QUEUE_NS


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cores", lambda processes: 4 // processes)


@pytest.mark.usefixtures("four_cores")
class TestPlan:
    MEASURED = Batching((1, 4, 16), instances=2, threads=2)

    @pytest.mark.parametrize(
        ("settings", "batching", "expected"),
        [
            pytest.param(Settings(), None, Batching((1, 2, 4, 8, 16, 32), 1, 4), id="nothing is known"),
            pytest.param(Settings(), MEASURED, MEASURED, id="the manifest's"),
            pytest.param(Settings(instances=4), None, Batching((1, 2, 4, 8, 16, 32), 4, 1), id="cores are shared out"),
            pytest.param(Settings(instances=9), None, Batching((1, 2, 4, 8, 16, 32), 9, 1), id="never below a thread"),
            pytest.param(Settings(instances=1), MEASURED, Batching((1, 4, 16), 1, 2), id="instances set"),
            pytest.param(Settings(instances=4), MEASURED, Batching((1, 4, 16), 4, 1), id="threads no more than fit"),
            pytest.param(Settings(threads=8), MEASURED, Batching((1, 4, 16), 2, 8), id="threads set win over all"),
            pytest.param(Settings(max_batch_size=8), MEASURED, Batching((1, 4, 8), 2, 2), id="a smaller largest batch"),
            pytest.param(Settings(max_batch_size=64), MEASURED, Batching((1, 4, 16, 64), 2, 2), id="a larger one"),
            pytest.param(Settings(max_batch_size=4), MEASURED, Batching((1, 4), 2, 2), id="one that was measured"),
            pytest.param(Settings(max_batch_size=1), MEASURED, Batching((1,), 2, 2), id="no batches"),
        ],
    )
    def test_settings_win_over_the_manifest_and_that_over_what_fits(
        self, settings: Settings, batching: Batching | None, expected: Batching
    ) -> None:
        manifest = replace(declared().manifest, batching=batching)
        assert batching_for(manifest, settings) == expected


class TestInline:
    LIMIT_NS = Settings().inline_below_us * 1000

    def inline(self, costs_ns: dict[int, float], largest: int = 8, instances: int = 0) -> tuple[bool, int]:
        return inline_within(list(costs_ns.items()), largest, instances, self.LIMIT_NS)

    def test_a_tiny_model_runs_on_the_loop(self) -> None:
        assert self.inline({1: self.LIMIT_NS, 8: self.LIMIT_NS}) == (True, 8)

    def test_a_model_above_the_limit_does_not(self) -> None:
        assert self.inline({1: self.LIMIT_NS + 1, 8: 9 * self.LIMIT_NS}) == (False, 8)

    def test_several_instances_that_are_asked_for_need_threads(self) -> None:
        assert self.inline({1: 1, 8: 1}, instances=1) == (True, 8)
        assert self.inline({1: 1, 8: 1}, instances=2) == (False, 8)

    def test_batches_on_the_loop_are_no_larger_than_the_loop_can_bear(self) -> None:
        limit = INLINE_LIMIT * self.LIMIT_NS
        assert self.inline({1: 1000, 4: limit, 8: limit + 1}) == (True, 4)

    def test_nor_larger_than_the_model_takes(self) -> None:
        assert self.inline({1: 1000, 2: 1000, 4: 1000}, largest=1) == (True, 1)

    @pytest.mark.parametrize(
        ("dtype", "shape", "independent", "holds"),
        [
            pytest.param("FP32", (-1, 4), True, True, id="rows of one size"),
            pytest.param("FP32", (4, 4), False, True, id="one size"),
            pytest.param("FP32", (-1, 4), False, False, id="requests that are never cut"),
            pytest.param("FP32", (-1, -1), True, False, id="an axis of any size"),
            pytest.param("BYTES", (-1,), True, False, id="texts and images"),
        ],
    )
    def test_a_cost_that_depends_on_more_than_the_rows_has_no_bound(
        self, dtype: str, shape: tuple[int, ...], independent: bool, holds: bool
    ) -> None:
        small = TensorSpec("a", BY_NAME["FP32"], (-1 if shape[0] == -1 else 4, 1))
        spec = ModelSpec((small, TensorSpec("x", BY_NAME[dtype], shape)), ())
        assert bounded(spec, independent) is holds

    def test_inline_can_be_switched_off(self) -> None:
        assert inline_within([(1, 1.0)], 8, 0, 0) == (False, 8)
