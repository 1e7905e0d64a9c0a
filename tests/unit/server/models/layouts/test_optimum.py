"""Folders of Optimum and the Hub: which of them are pipelines from text, and what these answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from server.models import Models, repository
from server.models.layouts.optimum import text_pipeline
from server.observe.metrics import Metrics
from server.request import InferRequest
from server.settings.options import Settings
from server.system.memory import file_bytes
from server.tensors import Array

tokenizers = pytest.importorskip("tokenizers", reason="the extra 'text' is not installed")

WORDS = ["[PAD]", "[UNK]", "good", "bad", "film"]
TABLE = np.array([[9, 9], [0, 0], [0, 2], [3, 0], [0.5, 0.5]], np.float32)
"""The vector of each word; also its scores."""

MODEL, POOLING = "onnx/model.onnx", "1_Pooling/config.json"
NONE: Mapping[str, Any] = {}
INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT
CLASSIFIER = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "NEGATIVE", "1": "POSITIVE"}}
ENCODER = {"architectures": ["BertModel"], "max_position_embeddings": 6}
MEAN = {"word_embedding_dimension": 2, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def model(path: Path, output: str, masked: bool = True, more: tuple[str, ...] = ()) -> None:
    """``last_hidden_state`` [n, tokens, 2], or else the sum of a text's vectors [n, 2]."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["states"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["states", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept" if masked else "states", "middle"], ["sum"], keepdims=0),
    ]
    whole = output == "last_hidden_state"
    nodes.append(helper.make_node("Identity", ["states" if whole else "sum"], [output]))
    names = ("input_ids", "attention_mask", *more)
    ends = (
        [helper.make_tensor_value_info(name, INT64, ["n", "tokens"]) for name in names],
        [helper.make_tensor_value_info(output, FLOAT, ["n", *(["tokens"] if whole else []), 2])],
    )
    values = {"table": TABLE, "last": np.array([2]), "middle": np.array([1])}
    weights = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "texts", *ends, weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def folder(root: Path, config: dict[str, Any], output: str, files: Mapping[str, Any] = NONE, at: str = MODEL) -> Path:
    """A folder of the Hub; ``files``: further JSON documents by path."""
    model(root / at, output)
    for name, body in {"config.json": config, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(body))
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(root / "tokenizer.json"))
    return root


def answers(root: Path, *texts: str) -> list[Any]:
    """The outputs of the loaded folder for texts in one request."""

    async def go() -> list[Array]:
        models = Models(Settings(inline_below_us=0), Metrics(lambda: True, "1"))
        loaded = await models.load(root)
        ended: asyncio.Future[InferRequest] = asyncio.get_running_loop().create_future()
        loaded.submit(InferRequest((np.array(texts, object),), len(texts), ended.set_result))
        request = await ended
        await models.close()
        assert request.error is None, request.error
        assert request.outputs is not None
        return request.outputs

    return [array.tolist() for array in asyncio.run(go())]


@pytest.mark.parametrize("at", [MODEL, "model.onnx"])
def test_a_classifier_answers_a_text_with_its_best_class(at: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "m", CLASSIFIER, "logits", at=at)
    label, score = answers(root, "good good film", "bad film", "good")
    assert label == [["POSITIVE"], ["NEGATIVE"], ["POSITIVE"]]
    expected = [1 / (1 + np.exp(-gap)) for gap in (4, 3, 2)]
    np.testing.assert_allclose(np.array(score).reshape(-1), expected, rtol=1e-5)
    (root / "pytorch_model.bin").write_bytes(bytes(10_000_000))
    assert file_bytes(repository.open_artifact(root, Settings())) < 1_000_000


@pytest.mark.parametrize("change", [{"problem_type": "multi_label_classification"}, {"id2label": {"0": "STARS"}}])
def test_scores_of_which_several_may_be_true_are_given_as_they_are(change: dict[str, Any], tmp_path: Path) -> None:
    (scores,) = answers(folder(tmp_path / "m", CLASSIFIER | change, "logits"), "bad film", "good")
    np.testing.assert_allclose(scores, [[3.5, 0.5], [0.0, 2.0]])


def test_an_encoder_answers_with_the_vectors_that_its_pooling_gives(tmp_path: Path) -> None:
    modules = [{"type": f"sentence_transformers.models.{one}"} for one in ("Transformer", "Pooling", "Normalize")]
    root = folder(tmp_path / "a", ENCODER, "last_hidden_state", {POOLING: MEAN, "modules.json": modules})
    (vectors,) = answers(root, "good film", "bad", "film " * 9)
    means = np.array([[0.25, 1.25], [3, 0], [0.5, 0.5]])
    np.testing.assert_allclose(vectors, means / np.linalg.norm(means, axis=1, keepdims=True), rtol=1e-5)
    cls = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (vectors,) = answers(folder(tmp_path / "b", ENCODER, "last_hidden_state", {POOLING: cls}), "good bad")
    assert vectors == [[0, 2]]
    (vectors,) = answers(folder(tmp_path / "c", ENCODER, "sentence_embedding"), "good bad")
    assert vectors == [[3, 2]]


@pytest.mark.parametrize(
    ("config", "files", "expected"),
    [
        ({}, {}, None),
        ({"max_position_embeddings": 100}, {"tokenizer_config.json": {"model_max_length": 1e30}}, 100),
        ({"max_position_embeddings": 514, "model_type": "xlm-roberta", "pad_token_id": 1}, {}, 512),
        ({"max_position_embeddings": 512}, {"tokenizer_config.json": {"model_max_length": 384}}, 384),
        ({"max_position_embeddings": 512}, {"sentence_bert_config.json": {"max_seq_length": 256}}, 256),
    ],
)
def test_the_longest_text_is_the_smallest_limit(
    config: dict[str, Any], files: dict[str, Any], expected: int | None, tmp_path: Path
) -> None:
    found, _ = text_pipeline(folder(tmp_path, CLASSIFIER | config, "logits", files))
    assert found is not None
    assert found.steps[0].options.get("max_length") == expected


@pytest.mark.parametrize(
    ("config", "output", "files", "reason"),
    [
        ({"architectures": ["BertForTokenClassification"]}, "logits", {}, "no task is known"),
        ({"architectures": ["BertForMaskedLM"]}, "logits", {}, "no task is known"),
        ({}, "logits", {}, "no task is known"),
        ({"architectures": ["BertForSequenceClassification"]}, "logits", {}, "no id2label"),
        (ENCODER, "last_hidden_state", {}, "no 1_Pooling/config.json"),
        (ENCODER, "last_hidden_state", {POOLING: {"pooling_mode_max_tokens": True}}, "mean and cls"),
        (
            ENCODER,
            "last_hidden_state",
            {POOLING: MEAN, "modules.json": [{"type": "sentence_transformers.models.Dense"}]},
            "'Dense'",
        ),
    ],
)
def test_what_is_not_told_is_served_as_tensors_and_said_at_load(
    config: dict[str, Any],
    output: str,
    files: dict[str, Any],
    reason: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = folder(tmp_path / "m", config, output, files)
    caplog.set_level(logging.INFO, "slipway.repository")
    artifact = repository.open_artifact(root, Settings())
    assert (artifact.manifest.pipeline, artifact.model_path) == (None, root / "onnx" / "model.onnx")
    assert reason in caplog.text
    assert "model=m" in caplog.text


def test_a_model_of_other_inputs_and_a_folder_without_a_tokenizer_are_tensors(tmp_path: Path) -> None:
    root = folder(tmp_path, CLASSIFIER, "logits")
    model(root / "onnx" / "model.onnx", "logits", more=("position_ids",))
    found, reason = text_pipeline(root)
    assert found is None
    assert "position_ids" in reason
    (root / "tokenizer.json").unlink()
    assert text_pipeline(root) == (None, "")


def test_a_model_that_padding_changes_is_never_padded(tmp_path: Path) -> None:
    root = folder(tmp_path / "m", CLASSIFIER | {"problem_type": "regression"}, "logits")
    model(root / "onnx" / "model.onnx", "logits", masked=False)
    (scores,) = answers(root, "good film", "bad film")
    np.testing.assert_allclose(scores, [[0.5, 2.5], [3.5, 0.5]])
    with pytest.raises(AssertionError, match="length"):
        answers(root, "good film", "bad")
