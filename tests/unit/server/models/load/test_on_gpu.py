"""The part of a model on GPUs is found below what a load wraps around it, and told how the rows may run."""

from __future__ import annotations

import numpy as np

from server.backends import Session
from server.backends.device_session import DeviceSession
from server.backends.independence import Independence
from server.backends.open_shapes import OpenShapes
from server.declaration import Declaration, DeclaredTensor
from server.models.load.declared import DeclaredSession, as_declared
from server.models.load.on_gpu import closed_rows, fit_rows, joined_by, on_gpu
from server.models.load.single_row import SingleRowSession
from server.target import ClosedShapes
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.fake_gpu import FakeDevice, FakeProgram
from tests.fake_sessions import Scripted

FP32 = BY_NAME["FP32"]
ROWS = ModelSpec((TensorSpec("x", FP32, (-1, 4)),), (TensorSpec("y", FP32, (-1, 4)),))
ONE = ModelSpec((TensorSpec("x", FP32, (1, 4)),), (TensorSpec("y", FP32, (1, 4)),))
SQUARES = Declaration(
    file="config.pbtxt",
    inputs=(DeclaredTensor("x", FP32, (2, 2), (4,)),),
    outputs=(DeclaredTensor("y", FP32, (2, 2), (4,)),),
    max_batch_size=4,
)
DEPENDENT = Independence(False, "it sorts them")


def squares(program: FakeProgram) -> tuple[DeviceSession, Session]:
    """A session on a GPU, and the same as clients see it, whose rows are 2 x 2."""
    inner = DeviceSession([program], ClosedShapes((1, 4)), None)
    return inner, as_declared(inner, SQUARES)


def test_reshaped_rows_that_depend_on_each_other_get_no_further_row() -> None:
    program = FakeProgram(ROWS, FakeDevice())
    inner, session = squares(program)
    assert isinstance(session, DeclaredSession)
    assert (on_gpu(session), closed_rows(session), joined_by(session)) == (inner, (1, 4), None)
    assert fit_rows(session, DEPENDENT, (1,)) == (1,)
    assert closed_rows(session) == ()
    given = np.ones((3, 2, 2), np.float32)
    np.testing.assert_array_equal(session.run([given])[0], 2 * given)
    assert (program.computed, inner.counters().open_runs, inner.counters().padded_rows) == (1, 1, 0)


def test_a_model_of_one_row_is_on_its_gpu_too() -> None:
    inner = DeviceSession([FakeProgram(ONE, FakeDevice())], ClosedShapes((1,)), None)
    session = SingleRowSession(inner)
    assert (on_gpu(session), closed_rows(session)) == (inner, ())
    assert fit_rows(session, Independence(True), (1,)) == (1,)


def test_batch_sizes_beyond_device_memory_are_given_up_and_those_of_the_cpu_are_not() -> None:
    program = FakeProgram(ROWS, FakeDevice(1 << 16), scratch=1 << 13)
    session = DeviceSession([program], ClosedShapes((1, 4, 16)), None)
    assert fit_rows(session, Independence(True), (1, 4, 16)) == (1, 4)
    assert fit_rows(Scripted(), DEPENDENT, (1, 16)) == (1, 16)
    assert on_gpu(Scripted()) is None


def test_open_shapes_use_every_gpu_count_their_runs_and_free_all() -> None:
    devices = [FakeDevice(ordinal=at) for at in range(2)]
    programs = [FakeProgram(ROWS, one) for one in devices]
    session = OpenShapes(programs)
    for rows in (3, 5):
        given = np.ones((rows, 4), np.float32)
        np.testing.assert_array_equal(session.run([given])[0], 2 * given)
    assert [one.computed for one in programs] == [1, 1]
    assert (on_gpu(session), closed_rows(session), session.counters().open_runs) == (session, (), 2)
    session.close()
    assert all(one.empty for one in devices)
