"""What the fake of TensorRT does with a plan: engines, contexts, runs and refitting."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import onnx

from .acts_build import entered, grows, host_memory, log
from .strict import Behaviour

if TYPE_CHECKING:
    from .fake import FakeTensorRT

ACTS: dict[tuple[str, str], Behaviour] = {}
BYTES = {"HALF": 2, "BF16": 2, "INT8": 1, "BOOL": 1, "UINT8": 1, "FP8": 1, "INT64": 8}
"""Of an element, where it is not 4."""


acts = partial(entered, ACTS)


@acts("Runtime", "deserialize_cuda_engine")
def deserialize_cuda_engine(fake: FakeTensorRT, runtime: Any, **arguments: Any) -> Any:
    """The engine; None, with the reason in the log, for a damaged plan or one of another version or device."""
    try:
        plan = json.loads(bytes(arguments["serialized_engine"]))
    except ValueError:
        plan, reason = {}, "the plan is damaged"
    else:
        reason = ""
        if plan["version"] != fake.module.__version__:
            reason = f"the plan is of version {plan['version']}, and this is {fake.module.__version__}"
        elif plan["sm"] != fake.sm:
            reason = f"the plan is for compute capability {plan['sm']}, and the device has {fake.sm}"
    if reason:
        text = f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization ({reason})"
        log(fake, runtime._state["logger"], "ERROR", text)
        return None
    state = {"num_io_tensors": len(plan["tensors"]), "num_optimization_profiles": len(plan["profiles"]), "name": ""}
    state |= {"num_layers": len(plan["layers"]), "refittable": plan["refittable"], "num_aux_streams": 0}
    state |= {"device_memory_size_v2": max(_bytes(plan, index) for index in range(len(plan["profiles"])))}
    return fake.made.make("ICudaEngine", plan=plan, refits=0, **state)


def _bytes(plan: dict[str, Any], index: int) -> int:
    """Device memory of a profile: 16 times its inputs at their largest."""
    inputs: list[dict[str, Any]] = [one for one in plan["tensors"] if one["mode"] == "INPUT"]
    shapes = [plan["profiles"][index].get(one["name"], [one["shape"]])[-1] for one in inputs]
    return 16 * sum(
        int(math.prod(shape)) * BYTES.get(one["dtype"], 4) for one, shape in zip(inputs, shapes, strict=True)
    )


def tensor_of(engine: Any, name: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = next((one for one in engine._state["plan"]["tensors"] if one["name"] == name), None)
    return found


@acts("ICudaEngine", "get_tensor_name")
def get_tensor_name(fake: FakeTensorRT, engine: Any, index: int) -> str:
    return str(engine._state["plan"]["tensors"][index]["name"])


@acts("ICudaEngine", "get_tensor_mode")
def get_tensor_mode(fake: FakeTensorRT, engine: Any, name: str) -> Any:
    one = tensor_of(engine, name)
    return fake.made.enums["TensorIOMode"][one["mode"] if one else "NONE"]


@acts("ICudaEngine", "get_tensor_dtype")
def get_tensor_dtype(fake: FakeTensorRT, engine: Any, name: str) -> Any:
    one = tensor_of(engine, name)
    return fake.made.enums["DataType"][one["dtype"] if one else "FLOAT"]


@acts("ICudaEngine", "get_tensor_shape")
def engine_tensor_shape(fake: FakeTensorRT, engine: Any, name: str) -> tuple[int, ...]:
    one = tensor_of(engine, name)
    return tuple(one["shape"]) if one else ()


@acts("ICudaEngine", "get_tensor_location")
def get_tensor_location(fake: FakeTensorRT, engine: Any, name: str) -> Any:
    return fake.made.enums["TensorLocation"]["DEVICE"]


@acts("ICudaEngine", "is_shape_inference_io")
def is_shape_inference_io(fake: FakeTensorRT, engine: Any, name: str) -> bool:
    return False


@acts("ICudaEngine", "get_tensor_profile_shape")
def get_tensor_profile_shape(fake: FakeTensorRT, engine: Any, name: str, profile_index: int) -> list[tuple[int, ...]]:
    one = tensor_of(engine, name)
    shapes = engine._state["plan"]["profiles"][profile_index].get(name)
    return [tuple(shape) for shape in shapes or [one["shape"] if one else []] * 3]


@acts("ICudaEngine", "get_device_memory_size_for_profile_v2")
def get_device_memory_size(fake: FakeTensorRT, engine: Any, profile_index: int) -> int:
    return _bytes(engine._state["plan"], profile_index)


@acts("ICudaEngine", "serialize")
def serialize(fake: FakeTensorRT, engine: Any) -> Any:
    return host_memory(fake, json.dumps(engine._state["plan"]).encode())


@acts("ICudaEngine", "create_engine_inspector")
def create_engine_inspector(fake: FakeTensorRT, engine: Any) -> Any:
    return fake.made.make("EngineInspector", engine=engine)


@acts("EngineInspector", "get_engine_information")
def get_engine_information(fake: FakeTensorRT, inspector: Any, **arguments: Any) -> str:
    layers = inspector._state["engine"]._state["plan"]["layers"]
    if arguments["format"].name == "JSON":
        return json.dumps({"Layers": layers, "Bindings": []})
    return "Layers:\n" + "\n".join(layers)


@acts("ICudaEngine", "create_execution_context")
def create_execution_context(fake: FakeTensorRT, engine: Any, **_: Any) -> Any:
    """A context with the first profile; the shapes of dynamic inputs are not set."""
    state = {"engine": engine, "active_optimization_profile": 0, "shapes": {}, "addresses": {}}
    return fake.made.make("IExecutionContext", **state)


@acts("IExecutionContext", "set_optimization_profile_async")
def set_profile(fake: FakeTensorRT, context: Any, profile_index: int, stream_handle: int) -> bool:
    if not 0 <= profile_index < len(context._state["engine"]._state["plan"]["profiles"]):
        return False
    context._state["active_optimization_profile"] = profile_index
    context._state["shapes"].clear()
    return True


@acts("IExecutionContext", "set_input_shape")
def set_input_shape(fake: FakeTensorRT, context: Any, name: str, shape: Any) -> bool:
    """False for a shape outside of the profile."""
    engine, sizes = context._state["engine"], tuple(shape)
    one = tensor_of(engine, name)
    if one is None or one["mode"] != "INPUT":
        return False
    least, _, most = get_tensor_profile_shape(fake, engine, name, context._state["active_optimization_profile"])
    if not grows(least, sizes, most):
        return False
    context._state["shapes"][name] = sizes
    return True


def shapes_of(context: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors; -1 for an axis whose size no input gives."""
    known: dict[str, int] = {}
    result = {}
    for one in context._state["engine"]._state["plan"]["tensors"]:
        given = context._state["shapes"].get(one["name"], one["shape"])
        if one["mode"] == "INPUT":
            known |= {axis: size for axis, size in zip(one["axes"], given, strict=True) if axis and size >= 0}
        result[one["name"]] = tuple(
            known.get(axis, size) if size < 0 else size for axis, size in zip(one["axes"], given, strict=True)
        )
    return result


@acts("IExecutionContext", "get_tensor_shape")
def context_tensor_shape(fake: FakeTensorRT, context: Any, name: str) -> tuple[int, ...]:
    return shapes_of(context)[name]


@acts("IExecutionContext", "infer_shapes")
def infer_shapes(fake: FakeTensorRT, context: Any) -> list[str]:
    """The names of inputs whose shape is not set."""
    tensors = context._state["engine"]._state["plan"]["tensors"]
    shapes = shapes_of(context)
    return [one["name"] for one in tensors if one["mode"] == "INPUT" and min(shapes[one["name"]], default=0) < 0]


@acts("IExecutionContext", "set_tensor_address")
def set_tensor_address(fake: FakeTensorRT, context: Any, name: str, memory: int) -> bool:
    if tensor_of(context._state["engine"], name) is None:
        return False
    context._state["addresses"][name] = int(memory)
    return True


@acts("IExecutionContext", "get_tensor_address")
def get_tensor_address(fake: FakeTensorRT, context: Any, name: str) -> int:
    return int(context._state["addresses"].get(name, 0))


@acts("IExecutionContext", "set_input_consumed_event")
def set_input_consumed_event(fake: FakeTensorRT, context: Any, event: int) -> bool:
    return True


@acts("IExecutionContext", "set_device_memory")
def set_device_memory(fake: FakeTensorRT, context: Any, memory: int, size: int) -> None:
    context._state["memory"] = (int(memory), int(size))


@acts("IExecutionContext", "execute_async_v3")
def execute_async_v3(fake: FakeTensorRT, context: Any, stream_handle: int) -> bool:
    """Runs ``compute``. False where a shape or an address is missing."""
    names = {one["name"] for one in context._state["engine"]._state["plan"]["tensors"]}
    if infer_shapes(fake, context) or names - {name for name, at in context._state["addresses"].items() if at}:
        return False
    fake.compute(shapes_of(context), dict(context._state["addresses"]))
    return True


@acts("Refitter", "__init__")
def refitter(fake: FakeTensorRT, one: Any, engine: Any, logger: Any) -> None:
    missing = [] if engine._state["refittable"] else ["the engine was built without REFIT"]
    one._state = {"engine": engine, "logger": logger, "missing": missing, "ready": False}


@acts("Refitter", "get_missing_weights")
def get_missing_weights(fake: FakeTensorRT, one: Any) -> list[str]:
    return list(one._state["missing"])


@acts("Refitter", "refit_cuda_engine")
def refit_cuda_engine(fake: FakeTensorRT, one: Any) -> bool:
    engine = one._state["engine"]
    if not engine._state["refittable"] or not one._state["ready"]:
        return False
    engine._state["refits"] += 1
    return True


@acts("OnnxParserRefitter", "__init__")
def parser_refitter(fake: FakeTensorRT, one: Any, refitter: Any, logger: Any) -> None:
    one._state = {"refitter": refitter, "logger": logger, "num_errors": 0}


@acts("OnnxParserRefitter", "refit_from_file")
def refit_from_file(fake: FakeTensorRT, one: Any, model: str) -> bool:
    return _refit(one, onnx.load(model))


@acts("OnnxParserRefitter", "refit_from_bytes")
def refit_from_bytes(fake: FakeTensorRT, one: Any, model: Any, path: str | None) -> bool:
    return _refit(one, onnx.load_from_string(bytes(model)))


def _refit(one: Any, model: onnx.ModelProto) -> bool:
    """True if the weights have the names of those of the engine."""
    refitter = one._state["refitter"]
    engine = refitter._state["engine"]
    same = [each.name for each in model.graph.initializer] == engine._state["plan"]["weights"]
    refitter._state["ready"] = same and engine._state["refittable"]
    return bool(refitter._state["ready"])
