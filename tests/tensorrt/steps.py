"""Steps from an ONNX file to a plan, and what they return, for the fake and for real bindings alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.onnx_graphs import FLOAT16, graph, node

Outcome = tuple[str, Any]


def logger_of(trt: Any) -> Any:
    """A logger that keeps errors in ``errors``."""

    class Kept(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                self.errors.append(text)

    return Kept()


def monitor_of(trt: Any, going: bool) -> Any:
    """A progress monitor that keeps calls in ``seen``, and cancels unless ``going``."""

    class Kept(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.seen.append("start")

        def phase_finish(self, phase: str) -> None:
            self.seen.append("finish")

        def step_complete(self, phase: str, step: int) -> bool:
            self.seen.append("step")
            return going

    return Kept()


def model(domain: str = "") -> bytes:
    """float16[n, 16] -> float16[n, 16]."""
    nodes = [node("MatMul", "x w", "h", name="first"), node("Relu", "h", "y", name="second")]
    made = graph(nodes, [("x", FLOAT16, ["n", 16])], [("y", FLOAT16, ["n", 16])], {"w": np.ones((16, 16), np.float16)})
    if domain:
        made.opset_import.add(domain=domain, version=1)
        made.graph.node[0].op_type, made.graph.node[0].domain = "FusedMatMul", domain
    return bytes(made.SerializeToString())


def outcome(action: Callable[[], Any]) -> Any:
    """What an action returns, or the name of what it raises."""
    try:
        return action()
    except (TypeError, AttributeError) as error:
        return type(error).__name__


def network_of(trt: Any, logger: Any, content: bytes) -> tuple[Any, Any, Any]:
    """Builder, parsed and strongly typed network, and its parser."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parser.parse(content)
    return builder, network, parser


PROFILES: list[tuple[str, str, list[tuple[int, ...]]]] = [
    ("a profile that fits", "x", [(1, 16), (4, 16), (8, 16)]),
    ("a profile that shrinks", "x", [(8, 16), (4, 16), (2, 16)]),
    ("a profile of two ranks", "x", [(1, 16), (4,), (8, 16)]),
    ("a profile of another width", "x", [(1, 9), (4, 9), (8, 9)]),
    ("a profile of an unknown input", "other", [(1, 16), (4, 16), (8, 16)]),
]


def profiles(trt: Any) -> list[Outcome]:
    """Index, truth and build of every profile."""
    logger = logger_of(trt)
    builder, network, _parser = network_of(trt, logger, model())
    results: list[Outcome] = []
    for name, tensor, shapes in PROFILES:
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        results.append((f"{name}: set_shape", outcome(lambda p=profile, t=tensor, s=shapes: p.set_shape(t, *s))))  # type: ignore[misc]
        results.append((f"{name}: index", config.add_optimization_profile(profile)))
        logger.errors.clear()
        results.append((f"{name}: builds", builder.build_serialized_network(network, config) is not None))
        results.append((f"{name}: errors", len(logger.errors)))
    results.append(
        ("none: builds", builder.build_serialized_network(network, builder.create_builder_config()) is not None)
    )
    return results


def refusals(trt: Any) -> list[Outcome]:
    """Calls that the bindings refuse, and such that they accept."""
    config = trt.Builder(logger_of(trt)).create_builder_config()
    memory = trt.MemoryPoolType.WORKSPACE
    actions: dict[str, Callable[[], Any]] = {
        "unknown attribute": lambda: setattr(config, "nosuch", 1),
        "unknown method": lambda: config.nosuch(),
        "attribute without setter": lambda: setattr(config, "num_optimization_profiles", 1),
        "attribute of a wrong type": lambda: setattr(config, "builder_optimization_level", "3"),
        "a number for a flag": lambda: config.set_flag(6),
        "too few arguments": lambda: config.set_memory_pool_limit(memory),
        "too many arguments": lambda: config.set_memory_pool_limit(memory, 1, 2),
        "arguments by name": lambda: config.set_memory_pool_limit(pool=memory, pool_size=1 << 20),
        "an argument of an unknown name": lambda: config.set_memory_pool_limit(pool=memory, size=1 << 20),
        "no constructor": lambda: trt.IBuilderConfig(),
        "shift by a flag": lambda: 1 << trt.BuilderFlag.TF32,
        "a flag is not its number": lambda: trt.BuilderFlag.TF32 in [int(trt.BuilderFlag.TF32)],
        "TF32 is on": lambda: config.get_flag(trt.BuilderFlag.TF32),
        "level": lambda: config.builder_optimization_level,
    }
    return [(name, outcome(action)) for name, action in actions.items()]


def parsing(trt: Any) -> list[Outcome]:
    """A network, and an operator that the parser does not know."""
    logger = logger_of(trt)
    _, good, parser = network_of(trt, logger, model())
    x, y = good.get_input(0), good.get_output(0)
    results: list[Outcome] = [
        ("inputs", good.num_inputs),
        ("input", (x.name, x.dtype.name, tuple(x.shape))),
        ("output", (y.name, y.dtype.name, tuple(y.shape))),
        ("no error", parser.num_errors),
        ("strongly typed", good.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)),
        ("a path that is no text", outcome(lambda: parser.parse_from_file(Path("x")))),
    ]
    _, _, parser = network_of(trt, logger, model("com.microsoft"))
    error = parser.get_error(0)
    results += [
        ("errors", parser.num_errors),
        ("error", (error.node(), error.node_name(), error.node_operator(), error.code().name)),
        ("logged", bool(logger.errors)),
    ]
    return results


def progress(trt: Any) -> list[Outcome]:
    """A build that goes on, and one that is cancelled."""
    results: list[Outcome] = []
    for going in (True, False):
        builder, network, _parser = network_of(trt, logger_of(trt), model())
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        profile.set_shape("x", (1, 16), (4, 16), (8, 16))
        config.add_optimization_profile(profile)
        config.progress_monitor = monitor = monitor_of(trt, going)
        plan = builder.build_serialized_network(network, config)
        results += [(f"going={going}: plan", plan is not None), (f"going={going}: seen", sorted(set(monitor.seen)))]
        results += [(f"going={going}: bytes", plan is not None and len(bytes(plan)) == plan.nbytes)]
    return results


STEPS: dict[str, Callable[[Any], list[Outcome]]] = {
    "profiles": profiles,
    "refusals": refusals,
    "parsing": parsing,
    "progress": progress,
}
