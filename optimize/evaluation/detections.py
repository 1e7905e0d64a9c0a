"""Detections: the agreement of a detector's boxes with float32's, like mean average precision with float32 as truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from server.tensors import Array

Outputs = Mapping[str, Array]

OVERLAPS = tuple(np.arange(0.5, 1.0, 0.05))
"""Intersections over union at which a box counts as found, as in the COCO evaluation."""

CONFIDENCE = 0.25
"""A box is a detection when its best score reaches this."""

CORNERS_SHARE = 0.99
"""Share of boxes whose third and fourth numbers exceed the first two, for boxes given by corners."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The place of boxes and scores. ``scores`` is None for one output with 4 + classes columns; ``last``: the columns
    are on the last axis, else on axis 1. ``corners``: boxes are corners, else centre and size."""

    boxes: str
    scores: str | None
    last: bool
    corners: bool

    def split(self, outputs: Outputs) -> tuple[Array, Array]:
        """Boxes by corners float64 [rows, anchors, 4] and scores float64 [rows, anchors, classes]."""
        first = _anchors(outputs[self.boxes], self.last)
        boxes = first[..., :4]
        scores = first[..., 4:] if self.scores is None else _anchors(outputs[self.scores], self.last)
        if scores.shape[1] != boxes.shape[1]:
            scores = np.swapaxes(scores, 1, 2)
        if not self.corners:
            boxes = np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=-1)
        return boxes, scores


def heads(reference: Outputs) -> Heads | None:
    """Find boxes and scores: two outputs of which one is named or shaped as boxes, or one named so; None if there are
    none."""
    floats = {name: array for name, array in reference.items() if array.dtype.kind == "f" and array.ndim >= 2}
    boxes = next((n for n, a in floats.items() if "box" in n.lower() and 4 in (a.shape[-1], a.shape[1])), None)
    if boxes is not None:
        rows, anchors = floats[boxes].shape[0], floats[boxes].size // (4 * max(1, len(floats[boxes])))
        for name, array in floats.items():
            if name != boxes and array.size and array.size % (rows * anchors) == 0 and _is_score(array):
                last = floats[boxes].shape[-1] == 4
                return _with_format(Heads(boxes, name, last, corners=True), reference)
    for name, array in floats.items():
        if array.ndim == 3 and _columns(array)[0] > 4:
            last = _columns(array)[1]
            if _is_score(_anchors(array, last)[..., 4:]) and not _is_score(_anchors(array, last)[..., :4]):
                return _with_format(Heads(name, None, last, corners=True), reference)
    return None


def agreement(got: Outputs, reference: Outputs, _: Array | None) -> Array:
    """The agreement of each row, float64 [rows]: F1 of boxes with float32's class, averaged over overlaps of .5 to .95.

    Boxes are compared at their anchors. A row without detections in both is 1. Raises ValueError for outputs without
    boxes and scores.
    """
    found = heads(reference)
    if found is None:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in reference.items())
        raise ValueError(
            f"no boxes and scores among {shapes}: name an output 'boxes' [rows, anchors, 4], or use one output "
            "[rows, anchors, 4 + classes] with scores from 0 to 1"
        )
    ours, our_scores = found.split(got)
    theirs, their_scores = found.split(reference)
    here, there = our_scores.max(axis=-1) >= CONFIDENCE, their_scores.max(axis=-1) >= CONFIDENCE
    same = here & there & (our_scores.argmax(axis=-1) == their_scores.argmax(axis=-1))
    overlap = _overlap(ours, theirs)
    total = here.sum(axis=1) + there.sum(axis=1)
    means = [2 * (same & (overlap >= at)).sum(axis=1) / np.maximum(total, 1) for at in OVERLAPS]
    return np.where(total > 0, np.mean(means, axis=0), 1.0)


def describe(reference: Outputs, _: Array | None) -> str:
    found = heads(reference)
    if found is None:
        return ""
    where = found.scores or f"the columns of {found.boxes} from the fifth on"
    form = "corners" if found.corners else "centre and size"
    return f"boxes by {form} in {found.boxes}, scores in {where}, detections above {CONFIDENCE:g}"


def _with_format(found: Heads, reference: Outputs) -> Heads:
    boxes, _ = found.split(reference)
    corners = ((boxes[..., 2] >= boxes[..., 0]) & (boxes[..., 3] >= boxes[..., 1])).mean() >= CORNERS_SHARE
    return Heads(found.boxes, found.scores, found.last, bool(corners))


def _columns(array: Array) -> tuple[int, bool]:
    """The number of columns of a [rows, anchors, columns] or [rows, columns, anchors] output; which it is."""
    last = array.shape[2] <= array.shape[1]
    return (array.shape[2] if last else array.shape[1]), last


def _anchors(array: Array, last: bool) -> Array:
    wide = array.astype(np.float64)
    if wide.ndim == 2:
        return wide[:, None, :]
    return wide if last else np.swapaxes(wide, 1, 2)


def _is_score(array: Array) -> bool:
    return bool(array.size) and bool(((array >= 0) & (array <= 1)).all())


def _overlap(one: Array, other: Array) -> Array:
    """Intersection over union of boxes by corners, [..., 4] to [...]."""
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(np.maximum(box[..., 2:] - box[..., :2], 0), axis=-1) for box in (one, other)]
    union = areas[0] + areas[1] - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))
