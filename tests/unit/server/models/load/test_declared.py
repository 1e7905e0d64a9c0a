"""Declared tensors: models that are served under the shapes, order and limits of a config.pbtxt."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.errors import BrokenArtifact
from server.models.layouts.triton_config import read_config
from server.models.load import Loader
from server.models.load.limits import SchedulingLimits, batching_for
from server.models.repository import open_artifact
from server.models.served import ServedModel, close
from server.request import InferRequest
from server.settings.options import Settings
from server.tensors import Array
from tests import onnx_graphs
from tests.onnx_graphs import FLOAT, INT64, graph, node

THREADS = Settings(inline_below_us=0, threads=1)
ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
IN = "input { name: 'x' data_type: TYPE_FP32 dims: %s }"
OUT = "output { name: 'y' data_type: TYPE_FP32 dims: %s }"


def sums() -> Any:
    """Two inputs [batch, n, 4] and [batch], and two outputs."""
    nodes = [node("ReduceSum", "x axes", "s", keepdims=0), node("Add", "s b", "y"), node("Identity", "x", "same")]
    return graph(
        nodes,
        [("x", FLOAT, ["batch", "n", 4]), ("b", FLOAT, ["batch"])],
        [("y", FLOAT, ["batch"]), ("same", FLOAT, ["batch", "n", 4])],
        {"axes": np.array([1, 2])},
    )


def model(tmp_path: Path, config: str, build: Any = onnx_graphs.perceptron) -> Path:
    onnx_graphs.save(build, tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "config.pbtxt").write_text(config)
    return tmp_path / "m" / "1"


def served(path: Path, use: Any, settings: Settings = THREADS) -> Any:
    async def go() -> Any:
        loop = asyncio.get_running_loop()
        loaded = await asyncio.to_thread(Loader(settings).build, open_artifact(path, settings), loop)
        try:
            return await use(loaded)
        finally:
            await close(loaded, 1.0)

    return asyncio.run(go())


async def ask(model: ServedModel, *arrays: Array) -> list[Array]:
    answer: asyncio.Future[InferRequest] = asyncio.get_running_loop().create_future()
    model.submit(InferRequest(arrays, len(arrays[0]) if model.spec.batchable else 1, answer.set_result))
    request = await answer
    if request.error is not None:
        raise request.error
    assert request.outputs is not None
    return request.outputs


def specs(model: ServedModel) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.name, one.shape) for one in (*model.spec.inputs, *model.spec.outputs)]


def test_a_reshaped_model_gives_the_same_answers_in_other_shapes(tmp_path: Path) -> None:
    plain, reshaped = tmp_path / "plain", tmp_path / "reshaped"
    config = """max_batch_size: 8
        input { name: 'x' data_type: TYPE_FP32 dims: [2, 2] reshape { shape: 4 } }
        output { name: 'y' data_type: TYPE_FP32 dims: [1, 3] reshape { shape: 3 } }"""

    async def both(one: ServedModel) -> tuple[Any, list[Array]]:
        return specs(one), await ask(one, ROWS.reshape(3, 2, 2) if one.spec.inputs[0].shape[1:] == (2, 2) else ROWS)

    _, (expected,) = served(model(plain, ""), both)
    shapes, (found,) = served(model(reshaped, config), both)
    assert shapes == [("x", (-1, 2, 2)), ("y", (-1, 1, 3))]
    np.testing.assert_allclose(found, expected.reshape(3, 1, 3), rtol=1e-6)


def test_order_narrower_axes_a_subset_of_outputs_and_an_empty_reshape(tmp_path: Path) -> None:
    config = """max_batch_size: 4
        input { name: 'b' data_type: TYPE_FP32 dims: 1 reshape { } }
        input { name: 'x' data_type: TYPE_FP32 dims: [2, -1] }
        output { name: 'y' data_type: TYPE_FP32 dims: 1 reshape { shape: [] } }"""

    async def use(one: ServedModel) -> tuple[Any, list[Array]]:
        x = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
        return specs(one), await ask(one, np.ones((3, 1), np.float32), x)

    shapes, (y,) = served(model(tmp_path, config, sums), use)
    assert shapes == [("b", (-1, 1)), ("x", (-1, 2, 4)), ("y", (-1, 1))]
    np.testing.assert_array_equal(y, [[29.0], [93.0], [157.0]])


def test_axes_of_any_size_keep_their_size_through_a_reshape(tmp_path: Path) -> None:
    config = """max_batch_size: 4
        input { name: 'x' data_type: TYPE_FP32 dims: [-1, 2, 2] reshape { shape: [-1, 4] } }
        input { name: 'b' data_type: TYPE_FP32 dims: [] }
        output { name: 'same' data_type: TYPE_FP32 dims: [1, -1, 4] reshape { shape: [-1, 4] } }"""
    config = config.replace("dims: [] }", "dims: 1 reshape { } }")

    async def use(one: ServedModel) -> list[Array]:
        return await ask(one, np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), np.zeros((2, 1), np.float32))

    (same,) = served(model(tmp_path, config, sums), use)
    np.testing.assert_array_equal(same, np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4))


@pytest.mark.parametrize(
    ("config", "independent", "most"),
    [
        ("max_batch_size: 64", True, 64),
        ("max_batch_size: 100000", True, 128),
        ("max_batch_size: 3", True, 3),
        ("max_batch_size: 8 " + IN % "4" + OUT % "3", True, 8),
        (IN % "[-1, 4]" + OUT % "[-1, 3]", True, 32),
        (IN % "4" + OUT % "3", True, 32),
        ("max_batch_size: 0 " + IN % "[-1, 4]", False, 1),
    ],
)
def test_the_batch_axis_is_beside_the_dims_only_where_there_is_a_batch_size(
    config: str, independent: bool, most: int, tmp_path: Path
) -> None:
    async def use(one: ServedModel) -> tuple[bool, int]:
        await ask(one, ROWS)
        return one.independent, one.max_batch_size

    assert served(model(tmp_path, config), use) == (independent, most)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("max_batch_size: 4 " + IN % "5", r"the input 'x' is \[any, 5\] with its batch axis, and \[any, 4\]"),
        ("max_batch_size: 4 " + IN % "[4, 4]", "the input 'x' is"),
        ("max_batch_size: 0 " + IN % "4", "the input 'x' is"),
        ("max_batch_size: 4 " + OUT % "2", "the output 'y' is"),
        ("max_batch_size: 4 " + (IN % "4").replace("FP32", "FP64"), "is FP64, and FP32 in the model"),
        ("max_batch_size: 4 " + (IN % "4").replace("'x'", "'z'"), "names the input 'z'; the model has x"),
        ("max_batch_size: 4 " + IN % "4" + IN % "4", "the input 'x' twice"),
    ],
)
def test_a_contradiction_between_config_and_model_is_refused(config: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match=reason):
        served(model(tmp_path, config), None)


def test_an_input_that_the_config_leaves_out_and_a_model_without_batch_axis_are_refused(tmp_path: Path) -> None:
    config = "max_batch_size: 4 input { name: 'b' data_type: TYPE_FP32 dims: 1 reshape { } }"
    with pytest.raises(BrokenArtifact, match="the input 'x' of the model is not in it"):
        served(model(tmp_path / "a", config, sums), None)
    fixed = lambda: graph([node("Identity", "x", "y")], [("x", INT64, [3, 4])], [("y", INT64, [3, 4])])  # noqa: E731
    with pytest.raises(BrokenArtifact, match="no batch axis of any size"):
        served(model(tmp_path / "b", "max_batch_size: 4", fixed), None)


def test_instances_threads_delay_and_timeout_are_those_of_the_config_unless_set(tmp_path: Path) -> None:
    declaration = read_config(
        """instance_group { count: 3 } parameters { key: 'intra_op_thread_count' value { string_value: '1' } }
        max_batch_size: 16 dynamic_batching { preferred_batch_size: 6 max_queue_delay_microseconds: 70
        default_queue_policy { default_timeout_microseconds: 9000 } }"""
    ).declaration
    manifest = open_artifact(model(tmp_path, ""), Settings()).manifest
    batching = batching_for(manifest, Settings(), declaration)
    assert (batching.batch_sizes, batching.instances, batching.threads) == ((1, 2, 4, 6, 8, 16), 3, 1)
    chosen = batching_for(manifest, Settings(instances=1, threads=2, max_batch_size=4), declaration)
    assert (chosen.batch_sizes, chosen.instances, chosen.threads) == ((1, 2, 4), 1, 2)
    limits = SchedulingLimits.of(Settings())
    assert limits.delay_ns(declaration) == 70_000
    assert limits.tensor_queue_ns("m", 1.0, declaration.queue_timeout_us) == 9_000_000
    limits = SchedulingLimits.of(Settings(max_queue_delay_us=5, max_queue_ms=2))
    assert limits.delay_ns(declaration) == 5_000
    assert limits.tensor_queue_ns("m", 1.0, declaration.queue_timeout_us) == 2_000_000


def test_fields_that_are_not_honoured_are_named_at_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def nothing(one: ServedModel) -> None: ...

    with caplog.at_level(logging.WARNING, "slipway.models"):
        served(model(tmp_path, "max_batch_size: 4 optimization { } model_warmup { }"), nothing)
    (line,) = [one.getMessage() for one in caplog.records if "not honoured" in one.getMessage()]
    assert line == "fields are not honoured model=m file=config.pbtxt fields=optimization,model_warmup"
