"""Readings: the conventions of class outputs and of labels, each with the accuracy computed by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from optimize.errors import BadInput
from optimize.evaluation import metrics, reading
from optimize.evaluation.evaluate import compare
from optimize.evaluation.reading import read
from server.tensors import Array

ROWS = 200
RNG = np.random.default_rng(0)


def one_hot(classes: Array, count: int, noise: float = 0.3) -> Array:
    return (np.eye(count)[classes] + noise * RNG.random((*classes.shape, count))).astype(np.float32)


TRUE = RNG.integers(0, 5, ROWS)
WRONG = np.where(np.arange(ROWS) % 10 == 0, (TRUE + 1) % 5, TRUE)
"""The predicted classes: nine tenths are right."""

BINARY, BINARY_SAID = (TRUE > 2).astype(int), (WRONG > 2).astype(int)
COLUMN = np.where(BINARY_SAID, 0.9, 0.2).astype(np.float32)
MASKS = RNG.integers(0, 3, (ROWS, 4, 6))
MASKS_SAID = np.where(RNG.random(MASKS.shape) < 0.9, MASKS, (MASKS + 1) % 3)
SHARE = float((WRONG == TRUE).mean())
BINARY_SHARE = float((BINARY_SAID == BINARY).mean())
MASK_SHARE = float((MASKS_SAID == MASKS).mean())
TAGS = RNG.integers(0, 2, (ROWS, 4))
TAGS_SAID = np.where(RNG.random(TAGS.shape) < 0.9, TAGS, 1 - TAGS)
WORDS = np.array(["ant", "bee", "cat", "dog", "eel"])
PAIRS = [(i, j) for i in range(4) for j in range(i + 1, 4)]


@dataclass(frozen=True)
class Case:
    outputs: dict[str, Array]
    labels: Array
    share: float
    kind: str
    names: tuple[str, ...] = ()


def votes(said: Array, classes: int) -> Array:
    """Decision values of one-vs-one: positive where the first class of the pair wins."""
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    return np.stack([np.where(said == i, 1.0, np.where(said == j, -1.0, 0.3)) for i, j in pairs], axis=1)


CASES = {
    "columns": Case({"p": one_hot(WRONG, 5)}, TRUE, SHARE, "argmax"),
    "labels as floats": Case({"p": one_hot(WRONG, 5)}, TRUE.astype(np.float32), SHARE, "argmax"),
    "labels [rows, 1]": Case({"p": one_hot(WRONG, 5)}, TRUE[:, None], SHARE, "argmax"),
    "1-based labels": Case({"p": one_hot(WRONG, 5)}, TRUE + 1, SHARE, "argmax"),
    "one-hot labels": Case({"p": one_hot(WRONG, 5)}, np.eye(5)[TRUE], SHARE, "argmax"),
    "words with class names": Case({"p": one_hot(WRONG, 5)}, WORDS[TRUE], SHARE, "argmax", tuple(WORDS)),
    "words in another order": Case({"p": one_hot(WRONG, 5)}, WORDS[::-1][TRUE], SHARE, "argmax", tuple(WORDS[::-1])),
    "numbers as class names": Case(
        {"p": one_hot(WRONG, 5)}, np.array([3, 7, 9, 11, 30])[TRUE], SHARE, "argmax", ("3", "7", "9", "11", "30")
    ),
    "-1 and 1 for two columns": Case({"p": one_hot(BINARY_SAID, 2)}, 2 * BINARY - 1, BINARY_SHARE, "argmax"),
    "one sigmoid column": Case({"p": COLUMN[:, None]}, BINARY, BINARY_SHARE, "threshold"),
    "a flat sigmoid": Case({"p": COLUMN}, BINARY, BINARY_SHARE, "threshold"),
    "one logit column": Case({"p": 5 * COLUMN[:, None] - 2.5}, BINARY, BINARY_SHARE, "threshold"),
    "a logit and -1, 1": Case({"p": 5 * COLUMN - 2.5}, 2 * BINARY - 1, BINARY_SHARE, "threshold"),
    "a sigmoid and booleans": Case({"p": COLUMN}, BINARY.astype(bool), BINARY_SHARE, "threshold"),
    "a sigmoid and words": Case(
        {"p": COLUMN}, np.array(["no", "yes"])[BINARY], BINARY_SHARE, "threshold", ("no", "yes")
    ),
    "the class itself": Case({"label": WRONG.astype(np.int64)}, TRUE, SHARE, "named"),
    "the class itself, any numbers": Case(
        {"label": np.array([2, 4, 8, 16, 32])[WRONG]}, np.array([2, 4, 8, 16, 32])[TRUE], SHARE, "named"
    ),
    "the class as a word": Case({"label": WORDS[WRONG].astype(object)}, WORDS[TRUE], SHARE, "named"),
    "probabilities and the class, other numbers": Case(
        {"p": one_hot(WRONG, 5), "label": np.array([1, 2, 4, 7, 9])[WRONG]},
        np.array([1, 2, 4, 7, 9])[TRUE],
        SHARE,
        "named",
    ),
    "boxes first, scores second": Case(
        {"boxes": 300 * RNG.random((ROWS, 4)).astype(np.float32), "scores": one_hot(WRONG, 5)}, TRUE, SHARE, "argmax"
    ),
    "boxes that labels fit by shape": Case(
        {"boxes": 300 * RNG.random((ROWS, 6)).astype(np.float32), "scores": one_hot(WRONG, 5)}, TRUE, SHARE, "argmax"
    ),
    "masks, channels first": Case({"m": np.moveaxis(one_hot(MASKS_SAID, 3), -1, 1)}, MASKS, MASK_SHARE, "argmax"),
    "masks, channels last": Case({"m": one_hot(MASKS_SAID, 3)}, MASKS, MASK_SHARE, "argmax"),
    "tokens": Case(
        {"t": one_hot(MASKS_SAID[:, 0], 3)}, MASKS[:, 0], float((MASKS_SAID[:, 0] == MASKS[:, 0]).mean()), "argmax"
    ),
    "a binary mask": Case(
        {"m": np.where(MASKS_SAID[:, None] > 0, 2.0, -2.0).astype(np.float32)},
        (MASKS > 0).astype(np.uint8),
        float(((MASKS_SAID > 0) == (MASKS > 0)).mean()),
        "threshold",
    ),
    "several labels a row": Case(
        {"p": np.where(TAGS_SAID, 0.8, 0.1).astype(np.float32)}, TAGS, float((TAGS_SAID == TAGS).mean()), "multilabel"
    ),
    "ordinal columns": Case(
        {
            "p": np.stack([np.where(at < WRONG, 0.9 - at / 100, 0.1 - at / 100) for at in range(4)], 1).astype(
                np.float32
            )
        },
        TRUE,
        SHARE,
        "ordinal",
    ),
    "one vs one, three classes": Case(
        {"d": votes(np.minimum(WRONG, 2), 3).astype(np.float32)},
        np.minimum(TRUE, 2),
        float((np.minimum(WRONG, 2) == np.minimum(TRUE, 2)).mean()),
        "one_vs_one",
    ),
    "one vs one": Case({"d": votes(WRONG, 5).astype(np.float32)}, TRUE, SHARE, "one_vs_one"),
}


@pytest.mark.parametrize("name", CASES)
def test_accuracy_is_the_share_of_right_answers_in_every_convention(name: str) -> None:
    case = CASES[name]
    metric = metrics.metric("accuracy", case.labels, case.names)
    found = compare(metric, case.outputs, case.outputs, case.labels, seed=0)
    assert found.score.value == pytest.approx(case.share)
    assert found.drop.value == 0
    assert read(case.outputs, case.labels, case.names).kind == case.kind
    chosen = metrics.default(case.outputs, case.labels, case.names)
    assert chosen == {"multilabel": "f1"}.get(case.kind, "accuracy")
    assert "output" in metrics.metric(chosen, case.labels, case.names).about(case.outputs, case.labels)


@pytest.mark.parametrize("name", CASES)
def test_a_destroyed_classifier_does_not_pass_in_any_convention(name: str) -> None:
    """Rows in another order are answers to other questions: the score must fall, whatever the shape of the output."""
    case = CASES[name]
    order = np.random.default_rng(1).permutation(ROWS)
    destroyed = {key: array[order] for key, array in case.outputs.items()}
    metric = metrics.metric("accuracy", case.labels, case.names)
    found = compare(metric, destroyed, case.outputs, case.labels, seed=0)
    assert found.drop.low > 0.1


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ({"p": one_hot(TRUE, 5)}, WORDS[TRUE]),
        ({"p": one_hot(TRUE, 5)}, np.array([0, 7] * (ROWS // 2))),
        ({"p": one_hot(TRUE, 5)}, RNG.random((ROWS, 7))),
        ({"p": one_hot(TRUE, 5)}, TRUE - 3),
        ({"boxes": RNG.random((ROWS, 4)).astype(np.float32)}, np.arange(ROWS)),
    ],
    ids=["words without names", "too large", "another shape", "negative", "more classes than columns"],
)
def test_what_is_not_understood_is_refused_with_the_shapes(outputs: dict[str, Array], labels: Array) -> None:
    with pytest.raises(BadInput) as refused:
        read(outputs, labels)
    name, array = next(iter(outputs.items()))
    assert name in str(refused.value)
    assert str(array.shape[1]) in str(refused.value)
    assert "--labels" in str(refused.value) or "--metric" in str(refused.value)


def test_ignored_positions_are_not_evaluated() -> None:
    labels = MASKS.copy()
    labels[:, 0] = 255
    outputs = {"m": np.moveaxis(one_hot(MASKS_SAID, 3), -1, 1)}
    found = read(outputs, labels)
    assert reading.accuracy(found, outputs) == pytest.approx(float((MASKS_SAID == MASKS)[:, 1:].mean()))


def test_chance_is_the_most_frequent_class() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    assert reading.chance(read({"p": one_hot(labels, 2)}, labels)) == 0.75


def test_ranking_takes_the_order_of_the_columns_from_the_named_class() -> None:
    """AUROC needs scores by class, and the classes are 1, 2, 4, 7 and 9."""
    values = np.array([1, 2, 4, 7, 9])
    outputs = {"p": one_hot(TRUE, 5, 0.1), "label": values[TRUE]}
    labels = values[TRUE]
    for name in ("auroc", "top1"):
        metric = metrics.metric(name, labels)
        assert compare(metric, outputs, outputs, labels, seed=0).score.value == 1.0


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        ({"p": np.full((4, 3), 1 / 3, np.float32)}, "agreement"),
        ({"vector": np.ones((4, 3), np.float32)}, "cosine"),
        ({"label": np.arange(4)}, "agreement"),
        ({"boxes": 300 * np.ones((4, 9, 4), np.float32), "scores": np.full((4, 9, 2), 0.5, np.float32)}, "detections"),
    ],
)
def test_the_default_without_labels(outputs: dict[str, Array], chosen: str) -> None:
    assert metrics.default(outputs, None) == chosen


def test_values_are_compared_with_the_output_of_their_shape() -> None:
    labels = RNG.random(ROWS)
    outputs = {"other": RNG.random((ROWS, 3)).astype(np.float32), "value": labels[:, None].astype(np.float32)}
    assert metrics.default(outputs, labels) == "mae"
    assert compare(metrics.metric("mae", labels), outputs, outputs, labels, 0).score.value < 1e-6
    with pytest.raises(BadInput, match="shape of no output"):
        compare(metrics.metric("mae", labels), {"other": outputs["other"]}, {"other": outputs["other"]}, labels, 0)


def test_a_broken_column_cannot_hide_in_the_cosine_of_another_output() -> None:
    outputs = {"boxes": 300 * RNG.random((ROWS, 4)).astype(np.float32), "scores": one_hot(TRUE, 5)}
    broken = {**outputs, "scores": np.roll(outputs["scores"], 1, axis=0)}
    found = compare(metrics.METRICS["cosine"], broken, outputs, None, 0)
    assert found.drop.low > 0.1
