"""The declaration of a pipeline: what it may say, and which mistakes are told with the step and what there is."""

from __future__ import annotations

from typing import Any

import pytest

from server.errors import BrokenArtifact
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from server.wiring import Pipeline, wire

TEXT, IDS = TensorSpec("text", BY_NAME["BYTES"], (-1,)), TensorSpec("ids", BY_NAME["INT64"], (-1, -1))
MASK = TensorSpec("mask", BY_NAME["INT64"], (-1, -1))
HIDDEN = TensorSpec("hidden", BY_NAME["FP32"], (-1, -1, 8))
VECTOR = TensorSpec("vector", BY_NAME["FP32"], (-1, 8))
SPECS = [ModelSpec((TEXT,), (IDS, MASK)), ModelSpec((IDS, MASK), (HIDDEN,)), ModelSpec((HIDDEN, MASK), (VECTOR,))]
TOKENIZE = {"name": "tokenize", "backend": "tokenizer", "file": "tokenizer.json", "max_length": 8}
ENCODE: dict[str, Any] = {"name": "encode", "artifact": "encoder"}
POOL: dict[str, Any] = {"name": "pool", "backend": "pooling"}


def pipeline(*steps: dict[str, Any], **more: Any) -> Pipeline:
    return Pipeline.from_json({"steps": list(steps), **more})


def test_values_are_found_by_name_and_the_nearest_earlier_one_wins() -> None:
    wired = wire(pipeline(TOKENIZE, ENCODE, POOL), SPECS)
    assert wired.inputs == ((0,), (1, 2), (3, 2))
    assert wired.outputs == (4,)
    assert wired.spec == ModelSpec((TEXT,), (VECTOR,))


def test_an_input_may_be_another_value_and_the_pipeline_may_answer_with_any() -> None:
    pool = {**POOL, "inputs": {"mask": "tokenize.ids"}}
    wired = wire(pipeline(TOKENIZE, ENCODE, pool, outputs=["vector", "encode.hidden", "request.text"]), SPECS)
    assert wired.inputs[2] == (3, 1)
    assert wired.outputs == (4, 3, 0)
    assert [one.name for one in wired.spec.outputs] == ["vector", "hidden", "text"]


def test_what_was_read_is_written_again() -> None:
    declared = pipeline(
        TOKENIZE, ENCODE, {**POOL, "inputs": {"mask": "ids"}, "batch_sizes": [4, 1]}, outputs=["vector"]
    )
    assert Pipeline.from_json(declared.to_json()) == declared
    assert declared.steps[0].options == {"max_length": 8}
    assert declared.steps[2].batch_sizes == (1, 4)


@pytest.mark.parametrize(
    ("steps", "specs", "message"),
    [
        (
            (TOKENIZE, POOL),
            (0, 2),
            "step 'pool' wants 'hidden': no step gives it; there are request.text, tokenize.ids",
        ),
        ((TOKENIZE, POOL, ENCODE), (0, 2, 1), "only step 'encode' gives it, which is not before this one"),
        (({**TOKENIZE, "inputs": {"text": "x"}},), (0,), "step 'tokenize' is the first"),
        ((TOKENIZE, {**ENCODE, "inputs": {"idz": "ids"}}), (0, 1), "'idz' is not known; the nearest is 'ids'"),
        (
            (TOKENIZE, {**ENCODE, "inputs": {"ids": "text"}}),
            (0, 1),
            r"wants 'ids' as INT64 \[any, any\]; request.text is",
        ),
    ],
)
def test_wrong_wiring_is_told_with_the_step_and_what_there_is(steps: Any, specs: Any, message: str) -> None:
    with pytest.raises(BrokenArtifact, match=message):
        wire(pipeline(*steps), [SPECS[index] for index in specs])


def test_a_shape_that_cannot_fit_is_told() -> None:
    narrow = ModelSpec((TensorSpec("hidden", BY_NAME["FP32"], (-1, -1, 9)), MASK), (VECTOR,))
    with pytest.raises(BrokenArtifact, match=r"as FP32 \[any, any, 9\]; encode.hidden is FP32 \[any, any, 8\]"):
        wire(pipeline(TOKENIZE, ENCODE, POOL), [*SPECS[:2], narrow])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [(["vektor"], "output 'vektor' is given by no step"), (["tokenize.ids", "ids"], "two outputs .* have one name")],
)
def test_outputs_that_do_not_exist_or_share_a_name_are_refused(outputs: list[str], message: str) -> None:
    with pytest.raises(BrokenArtifact, match=message):
        wire(pipeline(TOKENIZE, ENCODE, POOL, outputs=outputs), SPECS)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "must hold one JSON object"),
        ({"stpes": []}, "'stpes' is not known; the nearest is 'steps'"),
        ({"steps": []}, "at least one step"),
        ({"steps": [3]}, "step 0 must be an object with a name"),
        ({"steps": [{"name": "a b", "backend": "x"}]}, "step 0 must be an object with a name"),
        ({"steps": [{"name": "a"}]}, "step 'a' needs either a 'backend' or an 'artifact'"),
        ({"steps": [{"name": "a", "backend": "x", "artifact": "y"}]}, "needs either"),
        ({"steps": [{"name": "a", "artifact": "y", "threads": 2}]}, "'threads' is not known"),
        ({"steps": [{"name": "request", "backend": "x"}]}, "choose another"),
        ({"steps": [{"name": "a", "backend": "x"}] * 2}, "two steps are named 'a'"),
        ({"steps": [{"name": "a", "backend": "x", "file": "../secret"}]}, "not inside the artifact"),
        ({"steps": [{"name": "a", "artifact": "/etc"}]}, "not inside the artifact"),
        ({"steps": [{"name": "a", "backend": "x", "inputs": ["b"]}]}, "'inputs' must be an object"),
        ({"steps": [{"name": "a", "backend": "x", "instances": 0}]}, "'instances' must be a whole number, 1 or more"),
        ({"steps": [{"name": "a", "backend": "x", "batch_sizes": [0]}]}, "'batch_sizes' must be a list"),
        ({"steps": [{"name": "a", "backend": 3}]}, "'backend' must be text"),
        ({"steps": [{"name": "a", "backend": "x"}], "outputs": "y"}, "'outputs' must be a list of texts"),
    ],
)
def test_a_mistake_in_the_file_is_told_by_step_and_key(body: Any, message: str) -> None:
    with pytest.raises(BrokenArtifact, match=message):
        Pipeline.from_json(body)
