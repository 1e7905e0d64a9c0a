"""Tree ensembles in ONNX: what converters leave out of trees is added from the estimator.

scikit-learn and LightGBM compare ``x <= t`` with a float64 threshold. A float32 ``x`` takes the same branch for the
largest float32 value that is not above ``t``, but the nearest float32 value may be above it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from server.tensors import Array

NO_CHILD = -1
"""The left child of a leaf in XGBoost's format."""


Key = tuple[tuple[int, ...], tuple[int, ...]]


def floor32(thresholds: Any) -> Array:
    """Return the largest float32 values that are not above the float64 ``thresholds``."""
    exact = np.asarray(thresholds, np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)


def repair(model: Any, estimator: Any) -> None:
    """Set the thresholds, and the branch of missing values, of all trees of ``estimator`` in its ONNX ``model``.

    The converter writes the nearest float32 thresholds, and sends missing values to the right.
    """
    trees: dict[Key, list[Any]] = {}
    for tree in _trees(estimator, set()):
        trees.setdefault(_key(tree), []).append(tree)
    if not trees:
        return
    for node in model.graph.node:
        if node.op_type in ("TreeEnsembleClassifier", "TreeEnsembleRegressor"):
            _repair_node({attribute.name: attribute for attribute in node.attribute}, trees)


def _trees(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the fitted trees inside of an estimator, a pipeline or an ensemble."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _trees(inner, seen)
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "O":
            yield from _trees(value.tolist(), seen)
    elif isinstance(value, dict):
        yield from _trees(list(value.values()), seen)
    elif hasattr(value, "tree_"):
        yield value.tree_
    elif type(value).__module__.startswith("sklearn.") and hasattr(value, "__dict__"):
        yield from _trees(list(vars(value).values()), seen)


def _key(tree: Any) -> Key:
    inner = tree.children_left > np.arange(tree.node_count)
    return tuple(np.where(inner, tree.feature, 0).tolist()), tuple(np.where(inner, tree.children_left, 0).tolist())


def _repair_node(attributes: Mapping[str, Any], trees: Mapping[Key, list[Any]]) -> None:
    ids = np.array(attributes["nodes_treeids"].ints)
    values = np.array(attributes["nodes_values"].floats, np.float32)
    missing = np.zeros(len(ids), np.int64)
    if "nodes_missing_value_tracks_true" in attributes:
        missing = np.array(attributes["nodes_missing_value_tracks_true"].ints)
    features = np.array(attributes["nodes_featureids"].ints)
    below = np.array(attributes["nodes_truenodeids"].ints)
    for number in np.unique(ids):
        at = np.flatnonzero(ids == number)
        alike = trees.get((tuple(features[at].tolist()), tuple(below[at].tolist())), [])
        if not alike:
            continue
        tree = min(alike, key=lambda tree: float(np.abs(tree.threshold - values[at])[below[at] > 0].sum()))
        inner = below[at] > 0
        values[at] = np.where(inner, floor32(tree.threshold), values[at])
        missing[at] = np.where(inner, tree.missing_go_to_left, 0)
    attributes["nodes_values"].floats[:] = values.tolist()
    if "nodes_missing_value_tracks_true" in attributes:
        attributes["nodes_missing_value_tracks_true"].ints[:] = missing.tolist()


def floored_dump(booster: Any) -> Any:
    """Let ``booster.dump_model`` of a LightGBM booster return thresholds that are exact in float32."""
    original = booster.dump_model

    def dump_model(*arguments: Any, **options: Any) -> Any:
        dumped = original(*arguments, **options)
        for tree in dumped["tree_info"]:
            _floor(tree["tree_structure"])
        return dumped

    booster.dump_model = dump_model
    # The converter asks for dump_model only where this is set, and reads the library's buffer otherwise.
    booster.is_mock = True
    return booster


def _floor(node: dict[str, Any]) -> None:
    """Round the numeric thresholds below ``node``. Category sets are texts and stay as they are."""
    waiting = [node]
    while waiting:
        now = waiting.pop()
        if now.get("decision_type") == "<=" and not isinstance(now["threshold"], str):
            now["threshold"] = float(floor32(now["threshold"]))
        waiting += [now[side] for side in ("left_child", "right_child") if side in now]


def plain_trees(model: Any) -> Any:
    """Return ``model``, or for a DART booster a copy whose leaves include the weights of the trees."""
    raw = json.loads(model.get_booster().save_raw("json"))
    booster = raw["learner"]["gradient_booster"]
    if booster["name"] != "dart":
        return model
    trees = booster["gbtree"]["model"]["trees"]
    for tree, weight in zip(trees, booster["weight_drop"], strict=True):
        for node, child in enumerate(tree["left_children"]):
            if child == NO_CHILD:
                tree["split_conditions"][node] *= weight
    raw["learner"]["gradient_booster"] = {"name": "gbtree", "model": booster["gbtree"]["model"]}
    copied = type(model)()
    copied.load_model(bytearray(json.dumps(raw).encode()))
    return copied


def assign_trees(model: Any, booster: Any) -> None:
    """Assign each tree of the graph to its class or target, as the booster's own format says.

    The converter assumes that trees take turns, which parallel trees and several targets do not.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    inner = learner["gradient_booster"]
    of_tree = inner.get("gbtree", inner)["model"]["tree_info"]
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "TreeEnsembleClassifier" and max(of_tree) > 0:
            attributes["class_ids"].ints[:] = [of_tree[tree] for tree in attributes["class_treeids"].ints]
        elif node.op_type == "TreeEnsembleRegressor" and max(of_tree) > 0:
            attributes["target_ids"].ints[:] = [of_tree[tree] for tree in attributes["target_treeids"].ints]
            attributes["n_targets"].i = max(of_tree) + 1
            score = np.asarray(json.loads(learner["learner_model_param"]["base_score"]), np.float32).reshape(-1)
            attributes["base_values"].floats[:] = np.broadcast_to(score, max(of_tree) + 1).tolist()
