"""Structured outputs: boxes and scores side by side, several outputs, and columns of different ranges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optimize.evaluation import detections, gates, metrics, segments
from optimize.evaluation.evaluate import compare
from optimize.evaluation.gates import Cover
from server.tensors import Array

RNG = np.random.default_rng(0)
ROWS, ANCHORS = 32, 50


def head(rows: int = ROWS) -> Array:
    """[rows, anchors, 4 + 3]: boxes by centre and size up to 320, and scores from 0 to 1, few of them high."""
    boxes = np.concatenate([320 * RNG.random((rows, ANCHORS, 2)), 20 + 40 * RNG.random((rows, ANCHORS, 2))], axis=-1)
    scores = RNG.random((rows, ANCHORS, 3)) ** 4
    return np.asarray(np.concatenate([boxes, scores], axis=-1), np.float32)


def one_scale(array: Array) -> Array:
    """Eight bits with one scale for all columns, as a quantized Concat has it."""
    scale = np.abs(array).max() / 255
    return np.asarray(np.round(array / scale) * scale, np.float32)


@pytest.mark.parametrize(
    "shape",
    [lambda x: x, lambda x: np.swapaxes(x, 1, 2), lambda x: x[:, 0]],
    ids=["anchors first", "columns first", "one anchor"],
)
def test_scores_that_vanish_beside_boxes_are_found_by_their_own_range(shape) -> None:  # type: ignore[no-untyped-def]
    exact = np.ascontiguousarray(shape(head()))
    rough = one_scale(exact)
    assert compare(metrics.METRICS["cosine"], {"o": rough}, {"o": exact}, None, 0).score.value > 0.9999
    reason = gates.too_noisy({"o": rough}, {"o": exact}, Cover(None, classes=False))
    assert reason is not None
    assert "columns 4-6 of output 'o'" in reason
    fine = exact + (0.001 * np.abs(exact)).astype(np.float32)
    assert gates.too_noisy({"o": fine}, {"o": exact}, Cover(None, classes=False)) is None


def test_every_output_is_gated_and_not_only_the_one_of_the_metric() -> None:
    labels = RNG.integers(0, 3, ROWS)
    exact = {"scores": np.eye(3, dtype=np.float32)[labels], "boxes": 300 * RNG.random((ROWS, 4)).astype(np.float32)}
    cover = gates.cover(metrics.metric("accuracy", labels), exact, labels)
    assert cover == Cover("scores", classes=True)
    broken = {**exact, "boxes": exact["boxes"][::-1].copy()}
    assert "'boxes'" in (gates.too_noisy(broken, exact, cover) or "")
    assert gates.too_noisy(exact, exact, cover) is None


def test_rare_classes_of_a_classifier_are_no_segments_of_their_own() -> None:
    """A softmax has columns of any size; the metric judges them together."""
    logits = RNG.normal(size=(ROWS, 10)).astype(np.float32) * 3 - np.arange(10)
    exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rough = np.round(exact * 255) / 255
    assert list(segments.split("p", exact)) == [("output 'p'", ())]
    assert gates.too_noisy({"p": rough}, {"p": exact}, Cover(None, classes=False)) is None


def test_a_classifier_that_reads_boxes_as_classes_does_not_escape_the_gate() -> None:
    """Labels 0 to 2 fit seven columns by shape, but the largest is always a box."""
    exact = head()[:, 0]
    labels = RNG.integers(0, 3, ROWS)
    cover = gates.cover(metrics.metric("accuracy", labels), {"o": exact}, labels)
    assert not cover.classes
    assert gates.too_noisy({"o": one_scale(exact)}, {"o": exact}, cover) is not None


def test_a_constant_column_is_no_segment() -> None:
    exact = np.column_stack([300 * RNG.random(ROWS), np.zeros(ROWS), RNG.random(ROWS) - 2]).astype(np.float32)
    assert [label for label, _ in segments.split("o", exact)] == ["columns 2 of output 'o'", "columns 0 of output 'o'"]


def corners(array: Array) -> Array:
    boxes = np.concatenate([array[..., :2], array[..., :2] + array[..., 2:4]], axis=-1)
    return np.asarray(boxes, np.float32)


FORMS: dict[str, Callable[[Array], dict[str, Array]]] = {
    "one output": lambda x: {"output0": x},
    "columns first": lambda x: {"output0": np.ascontiguousarray(np.swapaxes(x, 1, 2))},
    "two outputs": lambda x: {"boxes": corners(x), "scores": x[..., 4:]},
}


@pytest.mark.parametrize("form", FORMS)
def test_detections_agree_with_themselves_and_fall_with_lost_scores(form: str) -> None:
    exact = head()
    metric = metrics.METRICS["detections"]
    reference = FORMS[form](exact)
    assert "boxes" in metric.about(reference, None)
    assert compare(metric, reference, reference, None, 0).score.value == 1.0
    half = exact.copy()
    half[:, ::2, 4:] = 0
    found = compare(metric, FORMS[form](half), reference, None, 0).score.value
    assert 0.5 < found < 0.8, "F1 with half of the boxes is two thirds"
    moved = exact.copy()
    moved[..., :2] += 200
    assert compare(metric, FORMS[form](moved), reference, None, 0).score.value < 0.01
    assert detections.heads({"vector": np.ones((4, 8), np.float32)}) is None


def test_rows_without_detections_in_both_are_equal() -> None:
    exact = head()
    exact[..., 4:] = 0.01
    assert compare(metrics.METRICS["detections"], {"o": exact}, {"o": exact}, None, 0).score.value == 1.0


@pytest.mark.parametrize("name", ["detections", f"{__name__}:rows_seen"])
def test_a_metric_that_may_look_at_nothing_protects_no_output(name: str) -> None:
    """Without detections above the threshold, or with a user's function, the metric is 1 whatever the outputs are."""
    exact = {"boxes": corners(head()), "scores": (0.2 * RNG.random((ROWS, ANCHORS, 3))).astype(np.float32)}
    broken = {**exact, "scores": exact["scores"][::-1].copy()}
    metric = metrics.metric(name, None)
    assert compare(metric, broken, exact, None, 0).score.value == 1.0
    reason = gates.too_noisy(broken, exact, gates.cover(metric, exact, None))
    assert reason is not None
    assert "'scores'" in reason


def rows_seen(outputs: dict[str, Array], _: Array | None) -> Array:
    return np.ones(len(outputs["boxes"]))
