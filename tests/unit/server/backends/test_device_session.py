"""Sessions on GPUs, over a fake device: closed shapes, graphs, memory, and a device that is lost."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from server.artifact import VariableAxis
from server.backends.cuda import CudaError, classified
from server.backends.device_session import DeviceSession, open_axes
from server.errors import BrokenArtifact, DeviceLost, ModelFailed, OutOfMemory, UnprocessableInput
from server.target import ClosedShapes
from server.tensors import BY_NAME, Array, DType, ModelSpec, TensorSpec
from tests.fake_gpu import FakeDevice, FakeProgram

FP32, INT64 = BY_NAME["FP32"], BY_NAME["INT64"]
ROWS = ModelSpec((TensorSpec("x", FP32, (-1, 3)),), (TensorSpec("y", FP32, (-1, 3)),))
TEXT = ModelSpec(
    (TensorSpec("ids", INT64, (-1, -1)), TensorSpec("mask", INT64, (-1, -1))),
    (TensorSpec("states", INT64, (-1, -1)),),
)
PADDED = VariableAxis({"ids": (1, 7.0), "mask": (1, 0.0)}, {"states": 1}, (4, 8))


def session(device: FakeDevice, rows: tuple[int, ...] = (1, 4), **options: bool) -> DeviceSession:
    return DeviceSession([FakeProgram(ROWS, device, **options)], ClosedShapes(rows), None)


def rows_of(count: int, dtype: DType = FP32) -> Array:
    return np.arange(count * 3).reshape(count, 3).astype(dtype.numpy)


def test_rows_round_up_to_a_bucket_and_the_answer_is_cut_to_the_request() -> None:
    device = FakeDevice()
    opened = session(device)
    for count in (1, 2, 3, 4):
        (answer,) = opened.run([rows_of(count)])
        np.testing.assert_array_equal(answer, 2 * rows_of(count))
    assert opened.counters().padded_rows == (4 - 2) + (4 - 3)


def test_added_rows_repeat_the_last_one() -> None:
    device = FakeDevice()
    opened = DeviceSession([FakeProgram(ROWS, device)], ClosedShapes((4,)), None, lanes=1)
    opened.run([rows_of(2)])
    seen = opened._lanes[0].slots[4, 0].inputs.views[0]
    np.testing.assert_array_equal(seen, rows_of(2)[[0, 1, 1, 1]])


def test_lengths_round_up_to_a_bucket_and_are_filled_with_the_padding() -> None:
    device = FakeDevice()
    opened = DeviceSession([FakeProgram(TEXT, device)], ClosedShapes((2,), (4, 8)), PADDED, lanes=1)
    ids, mask = np.array([[1, 2, 3, 4, 5]]), np.ones((1, 5), np.int64)
    (answer,) = opened.run([ids, mask])
    np.testing.assert_array_equal(answer, 2 * ids)
    slot = opened._lanes[0].slots[2, 8]
    np.testing.assert_array_equal(slot.inputs.views[0], [[1, 2, 3, 4, 5, 7, 7, 7]] * 2)
    np.testing.assert_array_equal(slot.inputs.views[1], [[1, 1, 1, 1, 1, 0, 0, 0]] * 2)


def test_after_load_every_run_is_one_replay_in_a_known_shape() -> None:
    device = FakeDevice()
    opened = session(device)
    launches, bound = device.launches, list(opened._programs[0].shapes)  # type: ignore[attr-defined]
    for count in (3, 1, 2, 4, 1):
        opened.run([rows_of(count)])
    assert device.launches == launches
    assert opened._programs[0].shapes == bound  # type: ignore[attr-defined]
    counters = opened.counters()
    assert (counters.runs, counters.replays, counters.launches, counters.open_runs) == (5, 5, 0, 0)
    assert not opened.graphless


@pytest.mark.parametrize(
    ("options", "reason"), [({"stale": True}, "another answer"), ({"host": True}, "not permitted when stream")]
)
def test_a_graph_that_cannot_be_captured_or_answers_otherwise_is_not_used(
    options: dict[str, bool], reason: str
) -> None:
    device = FakeDevice()
    opened = session(device, (1, 4), **options)
    assert reason in opened.graphless
    (answer,) = opened.run([rows_of(3)])
    np.testing.assert_array_equal(answer, 2 * rows_of(3))
    assert opened.counters().launches == 1
    assert opened.counters().replays == 0


def test_a_graph_that_reads_what_other_buckets_overwrite_is_not_used() -> None:
    opened = session(FakeDevice(), (1, 2, 4), table=True)
    assert "another answer" in opened.graphless
    for count in (1, 2, 3, 4, 1):
        (answer,) = opened.run([rows_of(count)])
        np.testing.assert_array_equal(answer, 2 * rows_of(count))


@pytest.mark.parametrize("counts", [(1, 1), (1, 2), (2, 2), (1, 1, 1)])
def test_requests_are_joined_in_pinned_memory_without_another_copy(counts: tuple[int, ...]) -> None:
    opened = session(FakeDevice())
    parts = [(rows_of(count) + index,) for index, count in enumerate(counts)]
    joined = opened.join(parts)
    assert any(np.shares_memory(joined[0], block) for block in opened._lanes[0].device.pinned.values())  # type: ignore[attr-defined]
    whole = np.concatenate([part[0] for part in parts])
    np.testing.assert_array_equal(joined[0], whole)
    (answer,) = opened.run(joined)
    np.testing.assert_array_equal(answer, 2 * whole)
    (again,) = opened.run([rows_of(2)])
    np.testing.assert_array_equal(again, 2 * rows_of(2))


def test_requests_of_different_lengths_are_joined_and_padded() -> None:
    opened = DeviceSession([FakeProgram(TEXT, FakeDevice())], ClosedShapes((2,), (4, 8)), PADDED, lanes=1)
    parts = [(np.array([[1, 2]]), np.array([[1, 1]])), (np.array([[3, 4, 5]]), np.array([[1, 1, 1]]))]
    joined = opened.join(parts)
    np.testing.assert_array_equal(joined[0], [[1, 2, 7], [3, 4, 5]])
    np.testing.assert_array_equal(joined[1], [[1, 1, 0], [1, 1, 1]])
    (answer,) = opened.run(joined)
    np.testing.assert_array_equal(answer, [[2, 4, 14], [6, 8, 10]])


def test_no_rows_are_no_rows_and_do_not_reach_the_device() -> None:
    device = FakeDevice()
    opened = session(device)
    copies = device.copies
    (answer,) = opened.run([rows_of(0)])
    assert answer.shape == (0, 3)
    assert answer.dtype == np.float32
    assert device.copies == copies


def test_a_refused_join_gives_its_lane_back() -> None:
    opened = DeviceSession([FakeProgram(ROWS, FakeDevice())], ClosedShapes((4,)), None, lanes=1)
    for _ in range(3):
        with pytest.raises(UnprocessableInput):
            opened.join([(rows_of(3),), (rows_of(2),)])
    opened.run([rows_of(1)])


def test_dependent_rows_run_as_they_are() -> None:
    opened = session(FakeDevice())
    opened.keep_rows()
    (answer,) = opened.run([rows_of(3)])
    assert len(answer) == 3
    opened.run([rows_of(4)])
    counters = opened.counters()
    assert (counters.open_runs, counters.launches, counters.replays) == (1, 1, 0)


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ([rows_of(5)], "5 rows are more than the 4"),
        ([rows_of(2)[:, :2]], r"must be FP32 \[any, 3\]"),
        ([rows_of(2).astype(np.float64)], "float64"),
    ],
)
def test_what_fits_no_bucket_is_refused_before_the_device(batch: list[Array], reason: str) -> None:
    device = FakeDevice()
    opened = session(device)
    copies = device.copies
    with pytest.raises(UnprocessableInput, match=reason):
        opened.run(batch)
    assert device.copies == copies


def test_a_length_beyond_the_largest_bucket_is_refused() -> None:
    opened = DeviceSession([FakeProgram(TEXT, FakeDevice())], ClosedShapes((2,), (4, 8)), PADDED)
    long = np.ones((1, 9), np.int64)
    with pytest.raises(UnprocessableInput, match="the length 9 exceeds"):
        opened.run([long, long])


def test_buckets_that_do_not_fit_are_dropped_at_load() -> None:
    device = FakeDevice(total=100_000)
    opened = DeviceSession([FakeProgram(ROWS, device, scratch=20_000)], ClosedShapes((1, 4, 8)), None, lanes=1)
    assert opened.shapes.rows == (1, 4)
    opened.run([rows_of(4)])


def test_a_model_of_which_nothing_fits_is_refused_and_everything_is_freed() -> None:
    device = FakeDevice(total=100_000)
    with pytest.raises(OutOfMemory):
        DeviceSession([FakeProgram(ROWS, device, scratch=200_000)], ClosedShapes((1, 4)), None)
    assert device.empty


def test_two_threads_use_two_lanes_and_get_their_own_answers() -> None:
    opened = session(FakeDevice())
    wrong: list[float] = []

    def ask(value: float) -> None:
        for _ in range(50):
            (answer,) = opened.run([np.full((2, 3), value, np.float32)])
            if not (answer == 2 * value).all():
                wrong.append(value)

    threads = [threading.Thread(target=ask, args=(value,)) for value in (1.0, 5.0)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


def test_several_gpus_have_a_program_each_and_share_the_work() -> None:
    devices = [FakeDevice(ordinal=0), FakeDevice(ordinal=1)]
    opened = DeviceSession([FakeProgram(ROWS, one) for one in devices], ClosedShapes((4,)), None, lanes=1)
    before = [one.replays for one in devices]
    for _ in range(4):
        opened.run([rows_of(1)])
    assert [one.replays - then for one, then in zip(devices, before, strict=True)] == [2, 2]


def test_a_lost_device_is_told_from_a_failed_run() -> None:
    device = FakeDevice()
    opened = session(device)
    device.lose()
    with pytest.raises(DeviceLost, match="700"):
        opened.run([rows_of(1)])
    opened.close()  # raises nothing


def test_close_frees_everything_and_later_runs_are_refused() -> None:
    device = FakeDevice()
    opened = session(device)
    opened.close()
    assert device.empty
    with pytest.raises(ModelFailed, match="unloaded"):
        opened.run([rows_of(1)])


@pytest.mark.parametrize(
    ("spec", "padding", "reason"),
    [
        (ROWS, None, ""),
        (TEXT, PADDED, ""),
        (TEXT, None, "axis 1 of 'ids'"),
        (ModelSpec(ROWS.inputs, (TensorSpec("found", INT64, (-1, -1)),)), None, "axis 1 of the output 'found'"),
        (ModelSpec((TensorSpec("t", BY_NAME["BYTES"], (-1,)),), ROWS.outputs), None, "'t' holds texts"),
    ],
)
def test_shapes_close_where_every_axis_is_known(spec: ModelSpec, padding: VariableAxis | None, reason: str) -> None:
    assert reason in open_axes(spec, padding)
    assert bool(open_axes(spec, padding)) == bool(reason)


def test_open_axes_refuse_a_session() -> None:
    device = FakeDevice()
    with pytest.raises(BrokenArtifact, match="nothing pads it"):
        DeviceSession([FakeProgram(TEXT, device)], ClosedShapes((1,)), None)


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (CudaError("cudaMalloc", 2, "cudaErrorMemoryAllocation"), 0, OutOfMemory),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0"), 0, OutOfMemory),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), 0, OutOfMemory),
        (RuntimeError("Failed to allocate memory for requested buffer of size 100"), 0, OutOfMemory),
        (CudaError("cudaStreamSynchronize", 700, "cudaErrorIllegalAddress"), 0, DeviceLost),
        (RuntimeError("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED"), 700, DeviceLost),
        (RuntimeError("CUDA failure 719: unspecified launch failure"), 0, DeviceLost),
        (RuntimeError("CUDA failure 214: uncorrectable ECC error encountered"), 0, DeviceLost),
        (RuntimeError("Invalid argument"), 0, ModelFailed),
        (CudaError("cudaGraphLaunch", 1, "cudaErrorInvalidValue"), 0, ModelFailed),
    ],
)
def test_errors_are_told_apart_by_code(error: Exception, code: int, kind: type[Exception]) -> None:
    assert type(classified(error, code)) is kind
