"""Stage: the CUDA provider starts, computes what the CPU computes, and behaves as the server relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from . import sessions
from .record import Record
from .stages import Place

CLOSE_DB = 90.0
"""Least signal-to-noise of float32 without TF32 against the CPU: rounding alone leaves about 130."""


def small_graph() -> bytes:
    """Convolution, pooling and a matrix product, seeded: ``x`` float32 [batch, 3, 16, 16] to ``y`` [batch, 10]."""
    random = np.random.default_rng(14)
    constants = {
        "kernel": random.standard_normal((8, 3, 3, 3)) * 0.3,
        "bias": random.standard_normal(8),
        "weight": random.standard_normal((8, 10)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "weight"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"], axis=-1),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        tensors,
    )
    model: Any = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def provider(place: Place, record: Record) -> None:
    model = small_graph()
    random = np.random.default_rng(1)
    feeds = {"x": random.standard_normal((8, 3, 16, 16)).astype(np.float32)}
    others = {"x": random.standard_normal((8, 3, 16, 16)).astype(np.float32)}
    on_cpu = sessions.open_session(Place("cpu", place.work), model)
    wanted, wanted_others = sessions.run(on_cpu, feeds), sessions.run(on_cpu, others)

    session = sessions.open_session(place, model)
    record.fact("providers", session.get_providers())
    record.fact("assignment", sessions.assignment(session))
    record.check("the provider starts", True)
    left = sessions.compute_on_cpu(session) if place.on_gpu else []
    record.check("no node computes on the CPU", not left, left or "none")
    _alike(record, "session.run", wanted, sessions.run(session, feeds))

    bound = sessions.bind(place, session, feeds, wanted, graph=None)
    _alike(record, "owned buffers", wanted, bound.whole(feeds))
    _alike(record, "owned buffers, new values", wanted_others, bound.whole(others))
    if place.on_gpu:
        _graphs(place, record, model, feeds, others, wanted, wanted_others)


def _graphs(
    place: Place, record: Record, model: bytes, feeds: Any, others: Any, wanted: Any, wanted_others: Any
) -> None:
    """One session holds a CUDA graph for each of two shapes; replays read what the buffers hold now."""
    session = sessions.open_session(place, model, enable_cuda_graph="1")
    bound = sessions.bind(place, session, feeds, wanted, graph=1)
    few, few_wanted = {"x": feeds["x"][:2]}, [wanted[0][:2]]
    narrow = sessions.bind(place, session, few, few_wanted, graph=2)
    for attempt in ("captured", "replayed", "replayed again"):
        _alike(record, f"graph {attempt}", wanted, bound.whole(feeds))
        _alike(record, f"graph of 2 rows {attempt}", few_wanted, narrow.whole(few))
    _alike(record, "graph, new values", wanted_others, bound.whole(others))
    plain = sessions.bind(place, sessions.open_session(place, model), feeds, wanted, graph=None)
    record.figure("small graph, bound, batch 8", sessions.seconds(plain.compute) * 1e6, "us")
    record.figure("small graph, CUDA graph, batch 8", sessions.seconds(bound.compute) * 1e6, "us")


def _alike(record: Record, name: str, wanted: Any, got: Any) -> None:
    decibels = sessions.signal_to_noise_db(wanted, got)
    record.check(name, decibels >= CLOSE_DB, f"{decibels:.0f} dB against the CPU", of_values=True)
