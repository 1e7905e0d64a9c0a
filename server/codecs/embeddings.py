"""Requests for embeddings and their responses: OpenAI's ``/v1/embeddings``, text-embeddings-inference's ``/embed``.

An item is a text, or an array of token ids (int64). Vectors are cut and normalized here, in float32.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import MalformedInput
from ..request import Payload
from ..tensors import Array, ModelSpec
from . import Encoded
from .json_documents import dump, parse
from .nested import shown

MOST_ITEMS = 2_048
"""Texts of one request, as in OpenAI's API."""

LEAST_NORM = 1e-12
_LARGEST_ID = (1 << 31) - 1
_CONTENT_TYPE = b"application/json"


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """What a body asks for. ``model``: empty for the default one. ``dimensions``: 0 for all.

    ``normalize``: None leaves vectors as the model gives them. ``truncate``: cut texts that are too long.
    """

    items: tuple[str | Array, ...]
    model: str = ""
    base64: bool = False
    dimensions: int = 0
    normalize: bool | None = None
    truncate: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingForm:
    """How to write a response: the number of the output, its form, its size (0: all), and the tokens to report."""

    output: int
    base64: bool
    dimensions: int
    normalize: bool
    tokens: int


def read_openai(body: bytes) -> EmbeddingCall:
    """A body in OpenAI's form. Raises MalformedInput."""
    document = _object(body)
    model, form = document.get("model"), document.get("encoding_format")
    if type(model) is not str or not model:
        raise MalformedInput(f'"model" must be the name of a model, got {shown(model)}')
    if form not in (None, "float", "base64"):
        raise MalformedInput(f'"encoding_format" must be "float" or "base64", got {shown(form)}')
    return EmbeddingCall(_items(document, "input"), model, form == "base64", _dimensions(document))


def read_tei(body: bytes) -> EmbeddingCall:
    """A body in the form of text-embeddings-inference. Raises MalformedInput."""
    document = _object(body)
    for key, only in (("truncation_direction", "right"), ("prompt_name", None)):
        value = document.get(key)
        if value is not None and not (type(value) is str and value.lower() == only):
            raise MalformedInput(f'"{key}" {shown(value)} is not supported; leave it out')
    return EmbeddingCall(
        _items(document, "inputs"),
        dimensions=_dimensions(document),
        normalize=_flag(document, "normalize", True),
        truncate=_flag(document, "truncate", False),
    )


class OpenAIEmbeddings:
    """Writes a list of embeddings with their usage."""

    interpreted = True

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:  # noqa: ARG002
        """``payload.notes`` is an :class:`EmbeddingForm`. NaN is ``null``, except in base64 (little-endian float32)."""
        form: EmbeddingForm = payload.notes
        rows: list[Any] = list(vectors_of(outputs, form))
        if form.base64:
            rows = [base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode() for row in rows]
        data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
        usage = {"prompt_tokens": form.tokens, "total_tokens": form.tokens}
        return dump({"object": "list", "data": data, "model": name, "usage": usage}), _CONTENT_TYPE, []


class TeiEmbeddings:
    """Writes a bare list of vectors."""

    interpreted = True

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:  # noqa: ARG002
        """``payload.notes`` is an :class:`EmbeddingForm`. NaN is ``null``."""
        return dump(vectors_of(outputs, payload.notes)), _CONTENT_TYPE, []


def vectors_of(outputs: Sequence[Array], form: EmbeddingForm) -> Array:
    """The vectors, float32 [items, dimensions], cut and normalized (L2) as the form says."""
    vectors = outputs[form.output].astype(np.float32, copy=False)
    if form.dimensions:
        vectors = vectors[:, : form.dimensions]
    if form.normalize:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), LEAST_NORM)
    return np.ascontiguousarray(vectors)


def _object(body: bytes) -> dict[str, Any]:
    document, _ = parse(body)
    if type(document) is not dict:
        raise MalformedInput(f"the body must be a JSON object, got {shown(document)}")
    return document


def _items(document: dict[str, Any], key: str) -> tuple[str | Array, ...]:
    """One text, a list of texts, one array of token ids, or a list of these. Raises MalformedInput."""
    given = document.get(key)
    rows = given if type(given) is list and not _are_ids(given) else [given]
    if not rows:
        raise MalformedInput(f'"{key}" is empty; send at least one text')
    if len(rows) > MOST_ITEMS:
        raise MalformedInput(f'"{key}" has {len(rows)} items, the limit is {MOST_ITEMS}; send several requests')
    return tuple(_item(row, key, index) for index, row in enumerate(rows))


def _item(row: Any, key: str, index: int) -> str | Array:
    if type(row) is str and row:
        return row
    if type(row) is list and _are_ids(row):
        wrong = next((one for one in row if not 0 <= one <= _LARGEST_ID), None)
        if wrong is not None:
            raise MalformedInput(f'"{key}": {shown(wrong)} in item {index} is not a token id')
        return np.array(row, np.int64)
    what = "is empty" if row in ("", []) else f"must be a text or a list of token ids, got {shown(row)}"
    raise MalformedInput(f'"{key}": item {index} {what}')


def _are_ids(row: list[Any]) -> bool:
    return bool(row) and set(map(type, row)) == {int}


def _dimensions(document: dict[str, Any]) -> int:
    value = document.get("dimensions")
    if value is None:
        return 0
    if type(value) is not int or not 1 <= value <= _LARGEST_ID:
        raise MalformedInput(f'"dimensions" must be a whole number, 1 or more, got {shown(value)}')
    return value


def _flag(document: dict[str, Any], key: str, default: bool) -> bool:
    value = document.get(key)
    if value is None:
        return default
    if type(value) is not bool:
        raise MalformedInput(f'"{key}" must be true or false, got {shown(value)}')
    return value
