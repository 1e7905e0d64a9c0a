"""Texts to tokens, with a ``tokenizer.json`` of Hugging Face's library.

A tokenized text is an int64 array [3, tokens]: ids, attention mask, type ids. The step passes it on as it is, so that
a caller that has counted the tokens of a text does not pay for them twice.

Options: ``max_length`` (longer texts are cut; default: the file's own limit, else 512), ``special_tokens`` (true).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from ..artifact import VariableAxis
from ..errors import BrokenArtifact, MalformedInput, ModelFailed, NotReady, UnprocessableInput
from ..ragged import ragged
from ..tensors import BY_NAME, Array, ModelSpec, TensorSpec
from . import BackendOptions
from .options import Options

MAX_LENGTH = 512
PAD_TOKENS = ("[PAD]", "<pad>")
"""The usual names of the token that fills shorter texts, where the file does not say how to fill."""
SPEC = ModelSpec(
    (TensorSpec("text", BY_NAME["BYTES"], (-1,)),),
    tuple(TensorSpec(name, BY_NAME["INT64"], (-1, -1)) for name in ("input_ids", "attention_mask", "token_type_ids")),
)
SENTENCE = "What a person asks a machine is seldom longer than one sentence of some twenty words, like this one."


class TokenizerSession:
    """BYTES [any] to three ragged INT64 [any, any], without padding. ``max_length``: tokens of a text, which is cut.

    ``pad_id``: the token that fills shorter texts in a batch.
    """

    __slots__ = ("_special_tokens", "_tokenizer", "_vocabulary", "max_length", "pad_id", "padding", "sample", "spec")

    def __init__(self, tokenizer: Any, special_tokens: bool, pad_id: int) -> None:
        self.pad_id = pad_id
        self.spec = SPEC
        self.padding: VariableAxis | None = None
        self.sample: list[Array] = [np.array([SENTENCE], object)]
        self._tokenizer = tokenizer
        self._special_tokens = special_tokens
        self._vocabulary = max(tokenizer.get_vocab().values(), default=-1) + 1
        self.max_length: int = tokenizer.truncation["max_length"]

    def run(self, batch: Sequence[Array]) -> list[Array]:
        tokenizer = self._tokenizer
        if tokenizer is None:
            raise ModelFailed("this model has been unloaded")
        if len(batch) != 1 or batch[0].ndim != 1 or batch[0].dtype.kind != "O":
            raise UnprocessableInput("the tokenizer takes one list of texts")
        values = batch[0].tolist()
        known = [value if isinstance(value, np.ndarray) else None for value in values]
        texts = [_text(value) for value, one in zip(values, known, strict=True) if one is None]
        found = iter(self._encode(tokenizer, texts))
        rows = [_tokenized(next(found)) if one is None else one for one in known]
        return [ragged([row[index] for row in rows]) for index in range(3)]

    def tokenize(self, texts: Sequence[str]) -> list[tuple[Array, int]]:
        """Each text tokenized and cut, and its number of tokens before it was cut. Any thread may call it.

        Raises NotReady once the model is being unloaded.
        """
        tokenizer = self._tokenizer
        if tokenizer is None:
            raise NotReady("the model is being unloaded")
        added = tokenizer.num_special_tokens_to_add(False) if self._special_tokens else 0
        found = self._encode(tokenizer, [_text(one) for one in texts])
        return [
            (_tokenized(one), len(one.ids) + sum(len(rest.ids) - added for rest in one.overflowing)) for one in found
        ]

    def of_ids(self, ids: Array) -> Array:
        """The tokenized text of these ids (int64), cut; nothing is added. Raises MalformedInput for an unknown id."""
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self._vocabulary:
            wrong = next(int(one) for one in ids if not 0 <= one < self._vocabulary)
            raise MalformedInput(f"token {wrong} is not in the vocabulary, which has {self._vocabulary} tokens")
        ids = ids[: self.max_length]
        return np.stack([ids, np.ones_like(ids), np.zeros_like(ids)])

    def _encode(self, tokenizer: Any, texts: list[str]) -> Any:
        try:
            # The library releases the interpreter here and uses threads of its own.
            return tokenizer.encode_batch_fast(texts, add_special_tokens=self._special_tokens) if texts else []
        except Exception as error:
            raise ModelFailed("the tokenizer failed on these texts; the server's log has the details") from error

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
    own, filled = tokenizer.truncation, tokenizer.padding
    usual = (tokenizer.token_to_id(name) for name in PAD_TOKENS)
    pad_id = filled["pad_id"] if filled else next((number for number in usual if number is not None), 0)
    tokenizer.enable_truncation(asked.whole("max_length", own["max_length"] if own else MAX_LENGTH, least=3))
    tokenizer.no_padding()
    session = TokenizerSession(tokenizer, asked.flag("special_tokens", True), pad_id)
    asked.finish()
    return session


def _tokenized(one: Any) -> Array:
    return np.array((one.ids, one.attention_mask, one.type_ids), np.int64)


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
