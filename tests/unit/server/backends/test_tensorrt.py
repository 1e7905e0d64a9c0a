"""Engines of TensorRT 10, 11 and RTX, over a fake whose interface is that of their bindings, and a fake GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from server.backends.device_session import DeviceSession
from server.backends.tensorrt import EngineProgram, imported
from server.errors import BrokenArtifact, UnprocessableInput
from server.target import ClosedShapes
from server.tensors import describe_shape
from tests.fake_gpu import FakeDevice
from tests.tensorrt import api, steps
from tests.tensorrt.fake import FakeTensorRT, tensorrt


def made(version: str, device: FakeDevice) -> tuple[FakeTensorRT, bytes]:
    """The fake of a version whose runs happen on the device, and a plan: y = relu(x @ ones), rows 1 to 4 and 5 to 8."""

    def compute(shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> None:
        def kernel() -> None:
            x, y = (values(name) for name in ("x", "y"))
            y[...] = np.maximum(x @ np.ones((16, 16), np.float16), 0)

        def values(name: str) -> Any:
            size = 2 * math.prod(shapes[name])
            return device.view(addresses[name], size).view(np.float16).reshape(shapes[name])

        device.launch(kernel)

    fake = tensorrt(version, compute=compute)
    trt = fake.module
    builder, network, _parser = steps.network_of(trt, steps.logger_of(trt), steps.model())
    config = builder.create_builder_config()
    for least, most in ((1, 4), (5, 8)):
        profile = builder.create_optimization_profile()
        profile.set_shape("x", (least, 16), (most, 16), (most, 16))
        assert config.add_optimization_profile(profile) >= 0
    return fake, bytes(builder.build_serialized_network(network, config))


@pytest.mark.parametrize("version", api.VERSIONS)
def test_an_engine_answers_in_every_bucket_of_every_profile(version: str) -> None:
    device = FakeDevice()
    fake, plan = made(version, device)
    program = EngineProgram(fake.module, plan, "model.plan", device)
    assert [(one.name, one.dtype.name, describe_shape(one.shape)) for one in program.spec.inputs] == [
        ("x", "FP16", "[any, 16]")
    ]
    opened = DeviceSession([program], ClosedShapes((2, 4, 8)), None)
    launches = device.launches
    for rows in (1, 2, 3, 5, 8):
        x = np.arange(rows * 16).reshape(rows, 16).astype(np.float16) / 64
        (answer,) = opened.run([x])
        np.testing.assert_allclose(answer, np.repeat(x.sum(1, dtype=np.float32)[:, None], 16, 1), rtol=1e-2)
    assert device.launches == launches
    assert opened.counters().replays == 5
    assert not opened.graphless
    opened.close()
    assert device.empty


def test_a_context_is_not_changed_after_its_capture_and_all_share_the_scratch_memory() -> None:
    device = FakeDevice()
    fake, plan = made("11.4", device)
    opened = DeviceSession(
        [EngineProgram(fake.module, plan, "model.plan", device)], ClosedShapes((4, 8)), None, lanes=2
    )
    changes = [len(fake.called("IExecutionContext", one)) for one in ("set_input_shape", "set_tensor_address")]
    for rows in (1, 5, 4):
        opened.run([np.ones((rows, 16), np.float16)])
    assert [len(fake.called("IExecutionContext", one)) for one in ("set_input_shape", "set_tensor_address")] == changes
    scratch = {call.arguments["memory"] for call in fake.called("IExecutionContext", "set_device_memory")}
    assert len(scratch) == 1


def test_an_engine_of_another_gpu_is_refused_with_what_to_do() -> None:
    device = FakeDevice()
    _, plan = made("11.4", device)
    elsewhere = tensorrt("11.4", sm=75)
    with pytest.raises(BrokenArtifact, match=r"model.plan.*run optimize here"):
        EngineProgram(elsewhere.module, plan, "model.plan", device)
    assert device.empty


def test_a_bucket_without_a_profile_is_refused_at_load() -> None:
    device = FakeDevice()
    fake, plan = made("10.16", device)
    with pytest.raises(BrokenArtifact, match=r"no profile for x \[16, 16\]"):
        DeviceSession([EngineProgram(fake.module, plan, "model.plan", device)], ClosedShapes((16,)), None)
    assert device.empty


def test_rows_that_depend_on_each_other_run_only_as_they_were_built() -> None:
    device = FakeDevice()
    fake, plan = made("10.16", device)
    opened = DeviceSession([EngineProgram(fake.module, plan, "model.plan", device)], ClosedShapes((4,)), None)
    opened.keep_rows()
    with pytest.raises(UnprocessableInput, match="not built for 3"):
        opened.run([np.ones((3, 16), np.float16)])


def test_the_first_module_that_is_there_is_taken() -> None:
    def find(name: str) -> str:
        if name == "tensorrt_rtx":
            raise ModuleNotFoundError(name)
        return name

    assert imported("tensorrt_rtx", find) == "tensorrt_rtx_bindings"
    with pytest.raises(BrokenArtifact, match="needs the package tensorrt, which"):
        imported("tensorrt", lambda name: (_ for _ in ()).throw(ModuleNotFoundError(name)))
