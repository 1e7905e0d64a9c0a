"""Made-up rows: sentences where there is a tokenizer, random tokens where there is none, and said which."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from optimize import options
from optimize.errors import BadInput
from optimize.evaluation import synthetic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 50, "max_position_embeddings": 16}))
    return tmp_path


def test_without_a_tokenizer_tokens_are_random_and_within_the_vocabulary(folder: Path) -> None:
    data, about = synthetic.rows(folder, 0)
    assert data.inputs["input_ids"].shape == data.inputs["attention_mask"].shape == (synthetic.ROWS, 16)
    assert data.inputs["input_ids"].max() < 50
    assert "random tokens, because no tokenizer.json lies beside the model" in about


def test_the_seed_decides_and_the_digest_tells_rows_apart(folder: Path) -> None:
    one, same, other = (synthetic.rows(folder, seed)[0] for seed in (0, 0, 1))
    assert one.sha256 == same.sha256 != other.sha256


def test_with_a_tokenizer_rows_are_our_sentences(folder: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the extra 'huggingface' is not installed")
    words = sorted({word for text in synthetic.SENTENCES for word in text.split()})
    table = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2} | {word: at for at, word in enumerate(words, 3)}
    reader = tokenizers.Tokenizer(tokenizers.models.WordLevel(table, unk_token="[UNK]"))
    reader.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    reader.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    reader.save(str(folder / synthetic.TOKENIZER))
    data, about = synthetic.rows(folder, 0)
    tokens = data.inputs["input_ids"]
    assert "sentences of our own" in about
    assert tokens.shape == (synthetic.ROWS, 16)
    assert (tokens[:, 0] == 0).all()
    assert (tokens[:, -1] == 1).all()
    assert (tokens != 2).all(), "every word is known"
    assert len(np.unique(tokens, axis=0)) > 100


def test_other_models_need_rows(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--eval is needed: rows are made up for Hugging Face text models only"):
        synthetic.rows(tmp_path / "model.onnx", 0)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        synthetic.rows(tmp_path, 0)


def test_the_metric_is_chosen_later_where_the_user_gives_none() -> None:
    assert options.parse(["folder", "--output", "o"]).metric == ""
    assert options.parse(["folder", "--output", "o", "--metric", "agreement"]).metric == "agreement"
