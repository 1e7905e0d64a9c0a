"""Requests and responses of the zoo's clients, and the values in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from .model import Tensors


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a client knows of a model: how its inputs are laid out."""

    rowwise: bool
    """Whether the first axis of every input is the number of rows."""
    folded: bool
    """Whether all axes of the only input but the first have fixed sizes."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it goes over the wire."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One response: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Expected = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """A route with a format. ``carries`` says whether the format has a place for these tensors at all."""

    name: str
    carries: Callable[[Tensors, Expected, Shapes], bool]
    send: Callable[[str, Tensors, Expected], Sent]
    receive: Callable[[Response, Expected], dict[str, Any]]


def infer_path(model: str) -> str:
    """The path of the Open Inference Protocol."""
    return f"/v2/models/{quote(model, safe='')}/infer"


def invoke_path(model: str) -> str:
    """The path of SageMaker's multi-model endpoints."""
    return f"/models/{quote(model, safe='')}/invoke"


def nested(array: NDArray[Any]) -> Any:
    """The array as nested lists; bfloat16 as numbers."""
    return array.astype(np.float64).tolist() if array.dtype.name == "bfloat16" else array.tolist()


def from_nested(found: Any, like: NDArray[Any]) -> NDArray[Any]:
    """Nested lists as an array of the dtype of ``like``; null is NaN."""
    if like.dtype.kind == "O":
        return np.array(found, object)
    if like.dtype.kind == "f" or like.dtype.name == "bfloat16":
        return np.array(found, np.float64).astype(like.dtype)
    array = np.array(found, like.dtype)
    assert array.tolist() == found, f"{found} does not fit {like.dtype}"
    return array


def json_bytes(document: Any) -> bytes:
    """The document as JSON; NaN is the literal NaN."""
    return json.dumps(document).encode()
