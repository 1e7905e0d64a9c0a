"""Every TensorRT candidate of the four models is parsed and built by the real TensorRT-RTX."""

from __future__ import annotations

import importlib
import importlib.util
import time
from typing import Any

import pytest

from optimize.errors import PassFailed
from optimize.passes import engine, profiles, running
from optimize.passes.engine import BuildConfig, Built

from . import models
from .candidates import ENGINES, ROWS, Workshop, data_of
from .figures import Figures

MODULE = "tensorrt_rtx_bindings"
SM = 89
MOST_BYTES = {"digits": 8 << 20, "resnet50": 120 << 20, "minilm": 120 << 20, "lstm": 24 << 20}
"""Of an engine: its weights in half precision, kernels, and room for another version of the builder."""

SHARE_OF_TYPE = 0.5
"""Least share of the layers whose output has the candidate's type; the rest are constants, shapes and islands."""

NOT_APPLICABLE: set[tuple[str, str]] = {
    # No layer of theirs is large enough for int8, so that no pair stands in the graph.
    *(("lstm", name) for name in ("tensorrt_int8", "tensorrt_int8_entropy", "tensorrt_fp8")),
}

pytestmark = [
    pytest.mark.timeout(400),  # the first test of a model exports it
    pytest.mark.skipif(importlib.util.find_spec(MODULE) is None, reason="TensorRT-RTX cannot be had here"),
    pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning"),
]


def built(workshop: Workshop, model: str, candidate: str) -> Built:
    """The engine for ``ROWS``, as the pass builds it. A candidate that does not apply is skipped with the reason."""
    trt: Any = importlib.import_module(MODULE)
    if (model, candidate) in NOT_APPLICABLE:
        with pytest.raises(PassFailed) as refused:
            workshop.for_engine(model, candidate)
        pytest.skip(str(refused.value))
    graph = workshop.for_engine(model, candidate)
    _axes, length = running.free_length(graph, data_of(model))
    closed = running.closed_lengths(length)
    steps: list[int] = []
    made = engine.build(
        trt,
        graph,
        lambda shapes: profiles.of(shapes, ROWS, closed),
        BuildConfig(sm=SM),
        lambda done, whole: steps.append(done),
    )
    assert steps == sorted(steps)
    assert steps[-1] > 0.8 * engine.THOUSAND
    return made


@pytest.mark.parametrize(("model", "candidate"), [(m, c) for m in models.MODELS for c in ENGINES])
def test_the_real_builder_builds_it(workshop: Workshop, figures: Figures, model: str, candidate: str) -> None:
    start = time.process_time()
    made = built(workshop, model, candidate)
    figures.add("TensorRT candidates built", 1)
    figures.add("milliseconds of processor time to build", int(1e3 * (time.process_time() - start)))
    assert 0 < len(made.plan) < MOST_BYTES[model]
    types = made.layers
    wanted = "BF16" if candidate == "tensorrt_bfloat16" else "HALF"
    assert types.get(wanted, 0) > 0, types
    # An LSTM stays in float32 in bfloat16, and its loop is most of the layers.
    assert (model, wanted) == ("lstm", "BF16") or types.get(wanted, 0) > SHARE_OF_TYPE * (
        types.get(wanted, 0) + types.get("FLOAT", 0)
    ), types
    low = {"tensorrt_int8": "INT8", "tensorrt_int8_entropy": "INT8", "tensorrt_fp8": "FP8"}.get(candidate)
    if low:
        assert types.get(low, 0) > 0, types


def test_another_profile_makes_the_engine_larger(workshop: Workshop) -> None:
    """A reason to cap profiles; the pass has one for each number of rows."""
    trt: Any = importlib.import_module(MODULE)
    graph = workshop.for_engine("digits", "tensorrt_float16")
    sizes = [
        len(engine.build(trt, graph, lambda s, r=rows: profiles.of(s, r), BuildConfig(sm=SM), _silent).plan)  # type: ignore[misc]
        for rows in ((4,), (1, 4), (1, 2, 4))
    ]
    assert sizes == sorted(sizes)


def test_two_builds_are_equal(workshop: Workshop) -> None:
    trt: Any = importlib.import_module(MODULE)
    graph = workshop.for_engine("digits", "tensorrt_float16")
    plans = {
        engine.build(trt, graph, lambda shapes: profiles.of(shapes, ROWS), BuildConfig(sm=SM), _silent).plan
        for _ in range(2)
    }
    assert len(plans) == 1


def test_an_operator_of_another_domain_is_named(workshop: Workshop) -> None:
    trt: Any = importlib.import_module(MODULE)
    with pytest.raises(PassFailed, match=r"TensorRT cannot read the graph: \w+ \w+: .*Plugin not found"):
        engine.build(trt, workshop.fused("minilm"), lambda shapes: profiles.of(shapes, ROWS), BuildConfig(), _silent)


def _silent(done: int, whole: int) -> None:
    """No progress bar."""
