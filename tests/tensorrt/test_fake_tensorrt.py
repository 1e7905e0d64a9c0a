"""The fake of TensorRT refuses what the bindings refuse, in every version, and a plan lives only where it was made."""

from __future__ import annotations

from typing import Any

import pytest

from . import api, steps
from .fake import FakeTensorRT, tensorrt

REFUSED = {
    "unknown attribute": "AttributeError",
    "unknown method": "AttributeError",
    "attribute without setter": "AttributeError",
    "attribute of a wrong type": "TypeError",
    "a number for a flag": "TypeError",
    "too few arguments": "TypeError",
    "too many arguments": "TypeError",
    "arguments by name": None,
    "an argument of an unknown name": "TypeError",
    "no constructor": "TypeError",
    "shift by a flag": "TypeError",
    "a flag is not its number": False,
    "TF32 is on": True,
    "level": 3,
}


def plan_of(fake: FakeTensorRT, *flags: str) -> Any:
    trt = fake.module
    builder, network, _parser = steps.network_of(trt, steps.logger_of(trt), steps.model())
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("x", (1, 16), (4, 16), (8, 16))
    assert config.add_optimization_profile(profile) == 0
    for flag in flags:
        config.set_flag(trt.BuilderFlag.__members__[flag])
    return builder.build_serialized_network(network, config)


@pytest.mark.parametrize("version", api.VERSIONS)
def test_every_version_refuses_wrong_calls(version: str) -> None:
    assert dict(steps.refusals(tensorrt(version).module)) == REFUSED


@pytest.mark.parametrize("version", api.VERSIONS)
def test_a_profile_that_shrinks_has_no_index(version: str) -> None:
    found = dict(steps.profiles(tensorrt(version).module))
    indices = {name: found[f"{name}: index"] for name, *_ in steps.PROFILES}
    assert list(indices.values()) == [0, -1, -1, 0, 0]
    assert [found[f"{name}: builds"] for name in indices] == [True, False, False, False, False]


def test_versions_number_flags_differently() -> None:
    bits = {one: api.load(one).enums["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"] for one in api.VERSIONS}
    assert bits == {"10.16": 1, "11.4": 0, "rtx-1.7": 0}
    for one in api.VERSIONS:
        assert dict(steps.parsing(tensorrt(one).module))["strongly typed"]


def test_what_version_11_removed_is_refused_there() -> None:
    for version, has in (("10.16", True), ("11.4", False)):
        trt = tensorrt(version).module
        assert ("FP16" in trt.BuilderFlag.__members__) == has
        assert hasattr(trt.ICudaEngine, "device_memory_size") == has
        assert hasattr(trt.OnnxParser, "supports_model") == has


def test_a_behaviour_that_is_not_acted_out_says_so() -> None:
    trt = tensorrt().module
    with pytest.raises(NotImplementedError, match=r"Builder\.reset"):
        trt.Builder(steps.logger_of(trt)).reset()


def test_a_plan_runs_where_it_was_made() -> None:
    seen: list[dict[str, Any]] = []
    fake = tensorrt("11.4", compute=lambda shapes, addresses: seen.append({**shapes, **addresses}))
    trt = fake.module
    runtime = trt.Runtime(steps.logger_of(trt))
    engine = runtime.deserialize_cuda_engine(plan_of(fake))
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert [(name, engine.get_tensor_mode(name).name) for name in names] == [("x", "INPUT"), ("y", "OUTPUT")]
    assert engine.get_tensor_profile_shape("x", 0) == [(1, 16), (4, 16), (8, 16)]
    context = engine.create_execution_context()
    assert context.infer_shapes() == ["x"]
    assert not context.set_input_shape("x", (9, 16))
    assert context.set_input_shape("x", (3, 16))
    assert tuple(context.get_tensor_shape("y")) == (3, 16)
    assert not context.execute_async_v3(stream_handle=0)
    assert context.set_tensor_address("x", 16)
    assert context.set_tensor_address("y", 32)
    assert not context.set_tensor_address("z", 48)
    assert context.execute_async_v3(stream_handle=0)
    assert seen == [{"x": 16, "y": 32}]
    assert len(fake.called("IExecutionContext", "execute_async_v3")) == 2


@pytest.mark.parametrize(("version", "sm"), [("11.4", 90), ("10.16", 89)])
def test_a_plan_of_another_device_or_version_is_not_an_engine(version: str, sm: int) -> None:
    fake, elsewhere = tensorrt("11.4", sm=89), tensorrt(version, sm=sm)
    logger = steps.logger_of(elsewhere.module)
    assert elsewhere.module.Runtime(logger).deserialize_cuda_engine(bytes(plan_of(fake))) is None
    assert len(logger.errors) == 1


def test_only_an_engine_that_was_built_for_it_takes_new_weights() -> None:
    fake = tensorrt()
    trt, logger = fake.module, steps.logger_of(fake.module)
    for flags, expected in (((), False), (("REFIT",), True)):
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan_of(fake, *flags))
        refitter = trt.Refitter(engine, logger)
        parser = trt.OnnxParserRefitter(refitter, logger)
        assert parser.refit_from_bytes(steps.model()) == expected
        assert refitter.refit_cuda_engine() == expected
        assert engine.refittable == expected


def test_a_builder_that_finds_no_implementation_logs_it() -> None:
    fake = tensorrt(build_error="10: Internal Error (Could not find any implementation for node first.)")
    trt = fake.module
    logger = steps.logger_of(trt)
    builder, network, _parser = steps.network_of(trt, logger, steps.model())
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert "Could not find any implementation" in logger.errors[0]
