"""What the fake of TensorRT does between an ONNX file and a plan. The plan is JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import onnx

from .strict import Behaviour

if TYPE_CHECKING:
    from .fake import FakeTensorRT

ACTS: dict[tuple[str, str], Behaviour] = {}
DTYPES = {"FLOAT": "FLOAT", "FLOAT16": "HALF", "BFLOAT16": "BF16", "INT8": "INT8", "INT32": "INT32", "INT64": "INT64"}
DTYPES |= {"BOOL": "BOOL", "UINT8": "UINT8", "FLOAT8E4M3FN": "FP8"}
"""Members of DataType by the names of ONNX."""

BUILDING = "Building engine"
STEPS = 3


def entered(table: dict[tuple[str, str], Behaviour], owner: str, name: str) -> Callable[[Behaviour], Behaviour]:
    """Enters the decorated function into a table; it will get the fake, the object and the arguments."""

    def enter(function: Behaviour) -> Behaviour:
        table[owner, name] = function
        return function

    return enter


acts = partial(entered, ACTS)


def log(fake: FakeTensorRT, logger: Any, severity: str, text: str) -> None:
    if type(logger) is not fake.made.classes["Logger"]:  # the ready-made one prints
        logger.log(fake.made.enums["ILogger.Severity"][severity], text)


@acts("Builder", "create_network")
def create_network(fake: FakeTensorRT, builder: Any, flags: int) -> Any:
    typed = int(fake.made.enums["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"])  # type: ignore[call-overload]
    return fake.made.make("INetworkDefinition", flags=flags, typed=bool(flags >> typed & 1), model=None, name="")


@acts("Builder", "create_builder_config")
def create_builder_config(fake: FakeTensorRT, builder: Any) -> Any:
    enums = fake.made.enums
    return fake.made.make(
        "IBuilderConfig",
        builder_optimization_level=3,
        avg_timing_iterations=1,
        max_aux_streams=-1,
        progress_monitor=None,
        num_optimization_profiles=0,
        profiling_verbosity=enums["ProfilingVerbosity"]["LAYER_NAMES_ONLY"],
        hardware_compatibility_level=enums["HardwareCompatibilityLevel"]["NONE"],
        flags_set={enums["BuilderFlag"]["TF32"]},
        limits={},
        profiles=[],
        cache=None,
    )


@acts("Builder", "create_optimization_profile")
def create_optimization_profile(fake: FakeTensorRT, builder: Any) -> Any:
    return fake.made.make("IOptimizationProfile", shapes={})


@acts("IOptimizationProfile", "set_shape")
def set_shape(fake: FakeTensorRT, profile: Any, **arguments: Any) -> None:
    """Accepts every shape, as the real one does."""
    shapes = [tuple(arguments[name]) for name in ("min", "opt", "max")]
    profile._state["shapes"][arguments["input"]] = shapes


@acts("IOptimizationProfile", "get_shape")
def get_shape(fake: FakeTensorRT, profile: Any, **arguments: Any) -> list[tuple[int, ...]]:
    return list(profile._state["shapes"].get(arguments["input"], []))


@acts("IBuilderConfig", "add_optimization_profile")
def add_optimization_profile(fake: FakeTensorRT, config: Any, profile: Any) -> int:
    """The index; -1 where a shape does not grow from min over opt to max. Whether it fits the model, the build sees."""
    for least, best, most in profile._state["shapes"].values():
        if not grows(least, best, most):
            return -1
    config._state["profiles"].append(dict(profile._state["shapes"]))
    config._state["num_optimization_profiles"] += 1
    return len(config._state["profiles"]) - 1


def grows(least: Sequence[int], best: Sequence[int], most: Sequence[int]) -> bool:
    """Equal ranks, and no axis shrinks."""
    same = len(least) == len(best) == len(most)
    return same and all(a <= b <= c for a, b, c in zip(least, best, most, strict=True))


@acts("IBuilderConfig", "set_flag")
def set_flag(fake: FakeTensorRT, config: Any, flag: Any) -> None:
    config._state["flags_set"].add(flag)


@acts("IBuilderConfig", "clear_flag")
def clear_flag(fake: FakeTensorRT, config: Any, flag: Any) -> None:
    config._state["flags_set"].discard(flag)


@acts("IBuilderConfig", "get_flag")
def get_flag(fake: FakeTensorRT, config: Any, flag: Any) -> bool:
    return flag in config._state["flags_set"]


@acts("IBuilderConfig", "set_memory_pool_limit")
def set_memory_pool_limit(fake: FakeTensorRT, config: Any, pool: Any, pool_size: int) -> None:
    config._state["limits"][pool] = int(pool_size)


@acts("IBuilderConfig", "get_memory_pool_limit")
def get_memory_pool_limit(fake: FakeTensorRT, config: Any, pool: Any) -> int:
    return int(config._state["limits"].get(pool, 1 << 30))


@acts("IBuilderConfig", "create_timing_cache")
def create_timing_cache(fake: FakeTensorRT, config: Any, serialized_timing_cache: Any) -> Any:
    return fake.made.make("ITimingCache", content=bytes(serialized_timing_cache) or b"timings")


@acts("IBuilderConfig", "set_timing_cache")
def set_timing_cache(fake: FakeTensorRT, config: Any, cache: Any, ignore_mismatch: bool) -> bool:
    config._state["cache"] = cache
    return True


@acts("IBuilderConfig", "get_timing_cache")
def get_timing_cache(fake: FakeTensorRT, config: Any) -> Any:
    return config._state["cache"]


@acts("IBuilderConfig", "set_compute_capability")
def set_compute_capability(fake: FakeTensorRT, config: Any, **_: Any) -> bool:
    return True


@acts("ITimingCache", "serialize")
def serialize_cache(fake: FakeTensorRT, cache: Any) -> Any:
    return host_memory(fake, cache._state["content"])


def host_memory(fake: FakeTensorRT, content: bytes) -> Any:
    memory = fake.made.make("IHostMemory", nbytes=len(content))
    memory[:] = content
    return memory


@acts("OnnxParser", "__init__")
def parser(fake: FakeTensorRT, one: Any, network: Any, logger: Any) -> None:
    one._state = {"network": network, "logger": logger, "errors": [], "num_errors": 0}


@acts("OnnxParser", "parse_from_file")
def parse_from_file(fake: FakeTensorRT, one: Any, model: str) -> bool:
    try:
        loaded = onnx.load(model)
    except FileNotFoundError:
        return _fail(fake, one, "INVALID_VALUE", f"Input file cannot be found, or is not a regular file: {model}")
    return _parse(fake, one, loaded)


@acts("OnnxParser", "parse")
def parse(fake: FakeTensorRT, one: Any, model: Any, path: str | None) -> bool:
    return _parse(fake, one, onnx.load_from_string(bytes(model)))


def _parse(fake: FakeTensorRT, one: Any, model: onnx.ModelProto) -> bool:
    for index, node in enumerate(model.graph.node):
        if node.domain not in ("", "ai.onnx") or node.op_type in fake.unsupported:
            text = "Plugin not found, are the plugin name, version, and namespace correct?"
            return _fail(fake, one, "INVALID_NODE", text, index, node)
    one._state["network"]._state["model"] = model
    return True


def _fail(fake: FakeTensorRT, one: Any, code: str, text: str, index: int = -1, node: Any = None) -> bool:
    state = {"code": fake.made.enums["ErrorCode"][code], "desc": text, "node": index, "file": "", "func": "", "line": 0}
    state |= {"node_name": node.name if node else "", "node_operator": node.op_type if node else ""}
    one._state["errors"].append(fake.made.make("ParserError", **state))
    one._state["num_errors"] += 1
    log(fake, one._state["logger"], "ERROR", text)
    return False


@acts("OnnxParser", "get_error")
def get_error(fake: FakeTensorRT, one: Any, index: int) -> Any:
    return one._state["errors"][index]


@acts("OnnxParser", "supports_model_v2")
def supports_model_v2(fake: FakeTensorRT, one: Any, model: Any, path: str | None) -> bool:
    nodes = onnx.load_from_string(bytes(model)).graph.node
    return all(node.domain in ("", "ai.onnx") and node.op_type not in fake.unsupported for node in nodes)


def _error_field(name: str) -> None:
    @acts("ParserError", name)
    def read(fake: FakeTensorRT, error: Any) -> Any:
        return error._state[name]


for _name in ("code", "desc", "node", "file", "func", "line", "node_name", "node_operator"):
    _error_field(_name)


def tensors(network: Any, which: str) -> list[dict[str, Any]]:
    """Name, dtype, shape with -1 for a dynamic axis, and names of axes, of the inputs or outputs."""
    graph = network._state["model"].graph
    constants = {one.name for one in graph.initializer}
    found = []
    for value in getattr(graph, which):
        if value.name in constants:
            continue
        sizes = value.type.tensor_type.shape.dim
        found.append(
            {
                "name": value.name,
                "dtype": DTYPES[onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)],
                "shape": [one.dim_value if one.HasField("dim_value") else -1 for one in sizes],
                "axes": [one.dim_param for one in sizes],
                "mode": which.upper(),
            }
        )
    return found


def _count(which: str) -> None:
    @acts("INetworkDefinition", f"num_{which}s")
    def count(fake: FakeTensorRT, network: Any) -> int:
        return len(tensors(network, which)) if network._state["model"] else 0

    @acts("INetworkDefinition", f"get_{which}")
    def get(fake: FakeTensorRT, network: Any, index: int) -> Any:
        one = tensors(network, which)[index]
        shape = tuple(one["shape"])
        return fake.made.make("ITensor", name=one["name"], shape=shape, dtype=fake.made.enums["DataType"][one["dtype"]])


_count("input")
_count("output")


@acts("INetworkDefinition", "num_layers")
def num_layers(fake: FakeTensorRT, network: Any) -> int:
    return len(network._state["model"].graph.node) if network._state["model"] else 0


@acts("INetworkDefinition", "get_layer")
def get_layer(fake: FakeTensorRT, network: Any, index: int) -> Any:
    node = network._state["model"].graph.node[index]
    inferred = onnx.shape_inference.infer_shapes(network._state["model"]).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    name = node.name or f"{node.op_type}_{index}"
    return fake.made.make("ILayer", name=name, num_outputs=len(node.output), types=[types[one] for one in node.output])


@acts("ILayer", "get_output")
def get_layer_output(fake: FakeTensorRT, layer: Any, index: int) -> Any:
    dtype = DTYPES[onnx.TensorProto.DataType.Name(layer._state["types"][index])]
    return fake.made.make("ITensor", name=f"{layer.name}_{index}", dtype=fake.made.enums["DataType"][dtype])


@acts("INetworkDefinition", "get_flag")
def get_network_flag(fake: FakeTensorRT, network: Any, flag: Any) -> bool:
    return bool(network._state["flags"] >> int(flag) & 1)


@acts("Builder", "build_serialized_network")
def build_serialized_network(fake: FakeTensorRT, builder: Any, network: Any, config: Any, **_: Any) -> Any:
    """The plan, or None with the reason in the log."""
    reason = fake.build_error or _refusal(network, config) or _reported(config)
    if reason:
        log(fake, builder._state["logger"], "ERROR", f"IBuilder::buildSerializedNetwork: Error Code {reason}")
        return None
    flags = {flag.name for flag in config._state["flags_set"]}
    plan = {
        "version": fake.module.__version__,
        "sm": fake.sm,
        "tensors": [*tensors(network, "input"), *tensors(network, "output")],
        "profiles": config._state["profiles"] or [{}],
        "layers": [get_layer(fake, network, index).name for index in range(num_layers(fake, network))],
        "refittable": "REFIT" in flags,
        "typed": network._state["typed"],
        "weights": [one.name for one in network._state["model"].graph.initializer],
    }
    return host_memory(fake, json.dumps(plan).encode())


def _refusal(network: Any, config: Any) -> str:
    for tensor in tensors(network, "input"):
        if -1 not in tensor["shape"]:
            continue
        if not config._state["profiles"]:
            return "4: API Usage Error (Network has dynamic inputs, but no optimization profile has been defined.)"
        for number, profile in enumerate(config._state["profiles"]):
            name = tensor["name"]
            if name not in profile:
                return f"4: API Usage Error (Dynamic input tensor {name} is missing dimensions in profile {number}.)"
            if any(not _fits(tensor["shape"], shape) for shape in profile[name]):
                return f"4: API Usage Error (Dimension mismatch for tensor {name} and profile {number}.)"
    return ""


def _fits(declared: list[int], shape: tuple[int, ...]) -> bool:
    return len(declared) == len(shape) and all(one in (-1, size) for one, size in zip(declared, shape, strict=True))


def _reported(config: Any) -> str:
    """Reports progress; the reason if the monitor cancels."""
    monitor = config._state["progress_monitor"]
    if monitor is None:
        return ""
    monitor.phase_start(BUILDING, None, STEPS)
    going = all(monitor.step_complete(BUILDING, step) for step in range(STEPS))
    monitor.phase_finish(BUILDING)
    return "" if going else "7: BuildCanceled (Build canceled by user)"
