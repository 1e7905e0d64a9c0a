"""Generated payloads: bodies from a model's metadata, or from the samples in its artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..errors import Unusable
from .payload import JSON, OTHER, Payload

BODIES = 8
"""Different bodies of a generated payload: a response cache would answer equal ones."""
FREE_AXIS = 16
"""Length of an axis that the model leaves open, other than the first, which counts rows."""
BINARY_HEADER = "Inference-Header-Content-Length"
WORDS = ("slip", "way", "keel", "mast", "harbour", "tide")
INPUT = "input:"
SAMPLES = "samples.npz"

# The Open Inference Protocol's names of data types.
DTYPES = {
    "BOOL": "bool",
    **{f"{sign}INT{bits}": f"{'u' if sign else ''}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input: ``shape`` with -1 for an axis of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def inputs(metadata: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The inputs in an Open Inference metadata document. Raises Unusable for one that cannot be used."""
    try:
        found = tuple(
            Tensor(one["name"], one["datatype"], tuple(int(axis) for axis in one["shape"]))
            for one in metadata["inputs"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable(f"the model's metadata cannot be read: {error!r}; pass --payload FILE") from error
    for one in found:
        if one.datatype not in DTYPES and one.datatype != "BYTES":
            raise Unusable(f"cannot generate the input {one.name!r} of type {one.datatype!r}; pass --payload FILE")
    if not found:
        raise Unusable("the model's metadata lists no inputs; pass --payload FILE")
    return found


def random_bodies(tensors: Sequence[Tensor], rows: int, *, binary: bool, seed: int) -> list[Payload]:
    """``BODIES`` payloads of ``rows`` rows each, of seeded random values: valid, without meaning."""
    random = np.random.default_rng([seed, rows])
    made = [{one.name: _values(one, rows, random) for one in tensors} for _ in range(BODIES)]
    types = {one.name: one.datatype for one in tensors}
    return [_encode(f"generated@{rows}#{number}", arrays, types, binary) for number, arrays in enumerate(made, 1)]


def sample_bodies(path: Path, rows: int, *, binary: bool) -> list[Payload]:
    """The samples of an artifact (its folder, or its ``samples.npz``), ``rows`` of them in each payload, in order.

    Raises Unusable when there are none.
    """
    file = path / SAMPLES if path.is_dir() else path
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name.removeprefix(INPUT): archive[name] for name in archive.files if name.startswith(INPUT)}
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot read the samples {str(file)!r}: {error}") from error
    count = min((len(array) for array in arrays.values() if array.ndim), default=0)
    if not count:
        raise Unusable(f"{str(file)!r} holds no samples: it needs arrays named {INPUT}NAME with rows on axis 0")
    types = {name: _datatype(name, array) for name, array in arrays.items()}
    return [
        _encode(f"samples@{rows}#{number}", {name: array[at] for name, array in arrays.items()}, types, binary)
        for number, at in enumerate(_windows(count, rows), 1)
    ]


def _windows(count: int, rows: int) -> Iterator[NDArray[np.intp]]:
    """Row numbers of each payload, cyclic, so that every payload is full and every sample is used."""
    for first in range(0, count, rows):
        yield np.arange(first, first + rows) % count


def _values(tensor: Tensor, rows: int, random: np.random.Generator) -> Array:
    shape = tuple((rows if at == 0 else FREE_AXIS) if axis < 0 else axis for at, axis in enumerate(tensor.shape))
    if tensor.datatype == "BYTES":
        return random.choice(WORDS, size=shape)
    dtype = np.dtype(DTYPES[tensor.datatype])
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    # Small numbers: indices into a vocabulary are the usual integers, and most vocabularies have a hundred words.
    return random.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)


def _datatype(name: str, array: Array) -> str:
    if array.dtype.kind in "US":
        return "BYTES"
    for datatype, dtype in DTYPES.items():
        if array.dtype == dtype:
            return datatype
    raise Unusable(f"the samples' input {name!r} is of type {array.dtype}, which has no name in the protocol")


def _encode(name: str, arrays: Mapping[str, Array], types: Mapping[str, str], binary: bool) -> Payload:
    """An Open Inference request: JSON, or JSON followed by each tensor's bytes (little-endian)."""
    tensors: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for key, array in arrays.items():
        tensor: dict[str, Any] = {"name": key, "shape": list(array.shape), "datatype": types[key]}
        if binary:
            blobs.append(_blob(array))
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = [_text(one) if types[key] == "BYTES" else one for one in array.reshape(-1).tolist()]
        tensors.append(tensor)
    document: dict[str, Any] = {"inputs": tensors}
    if not binary:
        return Payload(name, JSON, orjson.dumps(document))
    document["parameters"] = {"binary_data_output": True}
    head = orjson.dumps(document)
    return Payload(name, OTHER, head + b"".join(blobs), ((BINARY_HEADER, str(len(head))),))


def _blob(array: Array) -> bytes:
    if array.dtype.kind not in "US":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [_text(one).encode() for one in array.reshape(-1).tolist()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
