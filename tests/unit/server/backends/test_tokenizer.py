"""The tokenizer's counts: tokens of a text before it is cut, and tokenized texts that pass through the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.backends import BackendOptions
from server.errors import MalformedInput, NotReady

pytest.importorskip("tokenizers", reason="the extra 'text' is not installed")

MOST = 5


@pytest.fixture
def session(tmp_path: Path) -> Any:
    """Words w0 to w9 between [CLS] (10) and [SEP] (11), at most five tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from server.backends import tokenizer

    words = {f"w{index}": index for index in range(10)} | {"[CLS]": 10, "[SEP]": 11}
    made = Tokenizer(models.WordLevel(words, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 10), ("[SEP]", 11)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    return tokenizer.load(tmp_path / "tokenizer.json", BackendOptions(1, {"max_length": MOST}))


@pytest.mark.parametrize("words", range(12))
def test_tokens_are_counted_before_a_text_is_cut(session: Any, words: int) -> None:
    text = " ".join(f"w{index % 10}" for index in range(words))
    ((row, length),) = session.tokenize([text])
    assert length == words + 2
    assert row.shape == (3, min(length, MOST))
    assert (row[0, 0], row[0, -1]) == (10, 11)


def test_a_tokenized_text_passes_through_beside_plain_ones(session: Any) -> None:
    ((row, _),) = session.tokenize(["w1 w2 w3 w4 w5"])
    batch = np.empty(2, object)
    batch[:] = [row, "w1 w2 w3 w4 w5"]
    ids, mask, kinds = session.run([batch])
    assert ids[0].tolist() == ids[1].tolist() == [10, 1, 2, 3, 11]
    assert mask[0].tolist() == mask[1].tolist()
    assert kinds[0].tolist() == kinds[1].tolist()


def test_ids_are_used_as_they_are_and_cut(session: Any) -> None:
    assert session.of_ids(np.array([1, 2], np.int64)).tolist() == [[1, 2], [1, 1], [0, 0]]
    assert session.of_ids(np.arange(10)).shape == (3, MOST)
    with pytest.raises(MalformedInput, match=r"token 12 .* 12 tokens"):
        session.of_ids(np.array([1, 12], np.int64))


def test_an_unloaded_tokenizer_is_not_ready(session: Any) -> None:
    session.close()
    with pytest.raises(NotReady):
        session.tokenize(["w1"])
