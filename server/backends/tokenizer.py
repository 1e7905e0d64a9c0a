"""Texts to tokens, with a ``tokenizer.json`` of Hugging Face's library.

Options: ``max_length`` (longer texts are cut; default: the file's own limit, else 512), ``special_tokens`` (true).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from ..artifact import VariableAxis
from ..errors import BrokenArtifact, ModelFailed, UnprocessableInput
from ..ragged import ragged
from ..tensors import BY_NAME, Array, ModelSpec, TensorSpec
from . import BackendOptions
from .options import Options

MAX_LENGTH = 512
SPEC = ModelSpec(
    (TensorSpec("text", BY_NAME["BYTES"], (-1,)),),
    tuple(TensorSpec(name, BY_NAME["INT64"], (-1, -1)) for name in ("input_ids", "attention_mask", "token_type_ids")),
)
SENTENCE = "What a person asks a machine is seldom longer than one sentence of some twenty words, like this one."


class TokenizerSession:
    """BYTES [any] to three ragged INT64 [any, any], without padding."""

    __slots__ = ("_special_tokens", "_tokenizer", "padding", "sample", "spec")

    def __init__(self, tokenizer: Any, special_tokens: bool) -> None:
        self.spec = SPEC
        self.padding: VariableAxis | None = None
        self.sample: list[Array] = [np.array([SENTENCE], object)]
        self._tokenizer = tokenizer
        self._special_tokens = special_tokens

    def run(self, batch: Sequence[Array]) -> list[Array]:
        tokenizer = self._tokenizer
        if tokenizer is None:
            raise ModelFailed("this model has been unloaded")
        if len(batch) != 1 or batch[0].ndim != 1 or batch[0].dtype.kind != "O":
            raise UnprocessableInput("the tokenizer takes one list of texts")
        texts = [_text(value) for value in batch[0]]
        try:
            # The library releases the interpreter here and uses threads of its own.
            found = tokenizer.encode_batch_fast(texts, add_special_tokens=self._special_tokens)
        except Exception as error:
            raise ModelFailed("the tokenizer failed on these texts; the server's log has the details") from error
        return [
            ragged([np.array(one.ids, np.int64) for one in found]),
            ragged([np.array(one.attention_mask, np.int64) for one in found]),
            ragged([np.array(one.type_ids, np.int64) for one in found]),
        ]

    def close(self) -> None:
        self._tokenizer = None


def load(path: Path, options: BackendOptions) -> TokenizerSession:
    """Load the tokenizer. Raises BrokenArtifact if the file is missing or invalid, or for a wrong option."""
    asked = Options(options.options, "tokenizer")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise BrokenArtifact(f"cannot read the tokenizer {path.name}: {reason}") from error
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise BrokenArtifact(f"{path.name} is not a tokenizer.json: {reason}") from error
    own = tokenizer.truncation
    tokenizer.enable_truncation(asked.whole("max_length", own["max_length"] if own else MAX_LENGTH, least=3))
    tokenizer.no_padding()
    session = TokenizerSession(tokenizer, asked.flag("special_tokens", True))
    asked.finish()
    return session


def _text(value: object) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise UnprocessableInput("a text is not UTF-8") from error
    if not isinstance(value, str):
        raise UnprocessableInput(f"a text was expected, not a {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UnprocessableInput("a text holds a lone surrogate, which is not a character") from error
    return value
