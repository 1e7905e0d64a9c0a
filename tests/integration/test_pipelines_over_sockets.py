"""Pipelines in a real process: text in, vector out; image in, labels out; and what each step took."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.embeddings import build as minilm
from server import artifact as artifacts
from server.artifact import Batching, Manifest, VariableAxis
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import ServerProcess

pytest.importorskip("tokenizers", reason="the extra 'text' is not installed")

WORDS = ["[PAD]", "[UNK]", "a", "cat", "sits", "on", "mat"]
TABLE = np.arange(len(WORDS) * 3, dtype=np.float32).reshape(len(WORDS), 3) - 4
KINDS = ("real", "padding")
TEXT = {"Content-Type": "text/plain"}


def text_pipeline(root: Path, **tokenizer: Any) -> Path:
    """Words to vectors from a table, and their mean; hand-written, without a manifest of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    (root / "encoder").mkdir(parents=True)
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(root / "tokenizer.json"))
    sample_models.word_vectors(root / "encoder" / "model.onnx", TABLE)
    spec = ModelSpec(
        (TensorSpec("input_ids", BY_NAME["INT64"], (-1, -1)),), (TensorSpec("states", BY_NAME["FP32"], (-1, -1, 3)),)
    )
    padding = VariableAxis({"input_ids": (1, 0.0)}, {"states": 1}, (4, 16))
    artifacts.write(
        root / "encoder",
        Manifest("encoder", "1", "onnxruntime", "model.onnx", spec, batching=Batching((1, 4)), padding=padding),
    )
    steps = [
        {"name": "tokenize", "backend": "tokenizer", "file": "tokenizer.json", **tokenizer},
        {"name": "encode", "artifact": "encoder"},
        {"name": "pool", "backend": "pooling", "normalize": False, "inputs": {"last_hidden_state": "states"}},
    ]
    (root / "pipeline.json").write_text(json.dumps({"steps": steps}), encoding="utf-8")
    return root


def vector_of(text: str) -> list[float]:
    return [float(value) for value in TABLE[[WORDS.index(word) for word in text.split()]].mean(axis=0)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.integration.server_process import server_process

    directory = tmp_path_factory.mktemp("texts")
    with server_process(directory, text_pipeline(directory / "words")) as server:
        yield server.ready()


def test_a_text_goes_in_and_a_vector_comes_out(texts: ServerProcess) -> None:
    answer = texts.post("/invocations", b"a cat sits", TEXT)
    assert (answer.status, answer.json()) == (200, {"predictions": [vector_of("a cat sits")]})


def test_texts_of_mixed_lengths_come_back_in_order(texts: ServerProcess) -> None:
    asked = ["a cat", "a cat sits on a mat a cat sits on a mat", "mat", "sits on a mat on a mat"]
    answer = texts.post("/invocations", {"inputs": asked})
    np.testing.assert_allclose(answer.json()["outputs"], [vector_of(text) for text in asked], rtol=1e-6)


def test_open_inference_speaks_to_a_pipeline_as_to_any_model(texts: ServerProcess) -> None:
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["mat"]}]}
    answer = texts.post("/v2/models/words/infer", body)
    assert answer.json()["outputs"][0]["data"] == vector_of("mat")
    described = texts.get("/v2/models/words").json()
    assert (described["platform"], described["inputs"][0]["datatype"]) == ("pipeline", "BYTES")


def test_an_answer_and_the_metrics_tell_what_each_step_took(texts: ServerProcess) -> None:
    answer = texts.post("/invocations", b"a cat", {**TEXT, "X-Slipway-Timing": "1"})
    entries = dict(entry.split(";")[:2] for entry in answer.headers["server-timing"].split(", "))
    for step in ("tokenize", "encode", "pool"):
        assert float(entries[f"{step}.compute"].removeprefix("dur=")) > 0
        assert f"{step}.queue" in entries
    computed = sum(float(entries[f"{step}.compute"].removeprefix("dur=")) for step in ("tokenize", "encode", "pool"))
    assert float(entries["compute"].removeprefix("dur=")) == pytest.approx(computed, abs=0.001)
    attributes = texts.post(
        "/invocations", b"a cat", {**TEXT, "X-Amzn-SageMaker-Custom-Attributes": "slipway-timing"}
    ).headers["x-amzn-sagemaker-custom-attributes"]
    assert "encode.compute=" in attributes
    samples = texts.samples()
    for step in ("tokenize", "encode", "pool"):
        assert samples[f"slipway_step_seconds_count{{stage=compute,step={step}}}"] >= 2
        assert samples[f"slipway_step_batch_rows_count{{step={step}}}"] >= 2
        assert samples[f"slipway_step_run_seconds_total{{step={step}}}"] > 0
    assert any(name.startswith("slipway_step_cost_seconds{") and "length=16" in name for name in samples)
    real, padding = (samples[f"slipway_step_padded_positions_total{{kind={kind},step=encode}}"] for kind in KINDS)
    answer = texts.post("/invocations", {"inputs": ["a cat sits", "mat"]})  # 3 and 1 tokens: one run of 2 x 3 or more
    assert answer.status == 200
    after = texts.samples()
    assert after["slipway_step_padded_positions_total{kind=real,step=encode}"] == real + 4
    assert after["slipway_step_padded_positions_total{kind=padding,step=encode}"] >= padding + 2


def test_what_is_no_text_is_refused_and_the_server_goes_on(texts: ServerProcess) -> None:
    assert texts.post("/invocations", b"\xff\xfe", TEXT).status == 400
    assert texts.post("/invocations", {"instances": [[1.0]]}).status == 400
    assert texts.post("/invocations", b"mat", TEXT).status == 200


def test_an_image_goes_in_and_labels_come_out(serve: Serve, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="the extra 'image' is not installed")
    root = tmp_path / "colours"
    sample_models.brightest_channel(root / "classifier" / "model.onnx", side=8)
    steps = [
        {"name": "decode", "backend": "image", "size": 8, "mean": 0, "std": 1, "max_pixels": 10_000},
        {"name": "classify", "artifact": "classifier", "inputs": {"x": "pixels"}},
        {"name": "name", "backend": "labels", "labels": ["red", "green", "blue"], "inputs": {"scores": "y"}},
    ]
    (root / "pipeline.json").write_text(json.dumps({"steps": steps, "outputs": ["label"]}), encoding="utf-8")
    server = serve(root).ready()

    def encoded(colour: tuple[int, int, int], side: int, kind: str) -> bytes:
        file = io.BytesIO()
        image.new("RGB", (side, side), colour).save(file, kind)
        return file.getvalue()

    green = server.post("/invocations", encoded((0, 250, 9), 20, "PNG"), {"Content-Type": "image/png"})
    assert (green.status, green.json()) == (200, {"predictions": [["green"]]})
    blue = encoded((10, 20, 240), 30, "JPEG")
    plain = server.post("/invocations", blue, {"Content-Type": "image/jpeg", "Accept": "text/plain"})
    assert plain.body == b"blue"
    bomb = server.post("/invocations", encoded((0, 0, 0), 200, "PNG"), {"Content-Type": "image/png"})
    assert (bomb.status, bomb.code) == (422, "unprocessable_input")
    assert "200 x 200 pixels" in bomb.json()["error"]
    assert server.post("/invocations", b"no image", {"Content-Type": "image/png"}).status == 422


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ({"max_lenght": 3}, "step 'tokenize': the options of 'tokenizer': 'max_lenght' is not known"),
        ({"file": "vocab.json"}, "step 'tokenize': there is no file 'vocab.json'"),
    ],
)
def test_a_pipeline_that_cannot_be_served_stops_the_start_with_the_step(
    serve: Serve, tmp_path: Path, tokenizer: dict[str, Any], message: str
) -> None:
    server = serve(text_pipeline(tmp_path / "words", **tokenizer))
    assert server.exit_code() != 0
    assert message in server.log()


@pytest.mark.slow
def test_minilm_gives_the_vectors_of_its_reference(serve: Serve, tmp_path: Path) -> None:
    """Transformers, mean pooling and normalisation in torch, against the pipeline over HTTP."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    try:
        source = minilm.weights()
    except minilm.MissingWeights as error:
        pytest.skip(str(error))
    asked = ["A cat sits on the mat.", "Ja", "The central bank raised its rates again, " * 9, "How is rice cooked?"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers and the exporter warn about themselves
        server = serve(minilm.build(tmp_path / "embeddings")).ready()
        model = transformers.AutoModel.from_pretrained(source, local_files_only=True).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True)
        tokens = tokenizer(asked, padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state
        weights = tokens["attention_mask"].unsqueeze(-1).float()
        pooled = (states * weights).sum(1) / weights.sum(1)
        reference = torch.nn.functional.normalize(pooled, dim=1).numpy()
    vectors = np.array(server.post("/invocations", {"inputs": asked}).json()["outputs"])
    assert (vectors * reference).sum(axis=1).min() >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
