"""Fitting arrays to a model: names, shapes, dtypes, values and rows, with what is precomputed for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TypeVar

import numpy as np

from ..errors import MalformedInput, UnprocessableInput
from ..request import Payload
from ..tensors import RAW_BYTES, Array, ModelSpec, TensorSpec, describe_shape
from .nested import NestedReader, shown

T = TypeVar("T")

_MAX_REMEMBERED = 256
_MAX_ELEMENTS = 1 << 48
_FEW_AXES, _MODEST_SIZE = 4, 1 << 12  # the most that so many axes of this size can hold is _MAX_ELEMENTS
_NO_MISSING = "the model does not accept missing values here; send a number"
_plans: dict[int, DecodePlan] = {}


class DecodePlan:
    """The facts about a model that the codecs use in every request, computed once."""

    __slots__ = ("batchable", "by_name", "names", "readers", "single", "spec")

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.batchable = spec.batchable
        self.readers = tuple(NestedReader(tensor) for tensor in spec.inputs)
        self.by_name = {reader.spec.name: reader for reader in self.readers}
        self.names = self.by_name.keys()
        self.single = self.readers[0] if len(self.readers) == 1 else None

    def rows(self, arrays: Sequence[Array]) -> int:
        """The size of the batch axis that all arrays share; 1 for a model without one. Raises MalformedInput."""
        if not self.batchable:
            return 1
        rows = len(arrays[0])
        for tensor, array in zip(self.spec.inputs, arrays, strict=True):
            if len(array) != rows:
                first = self.spec.inputs[0].name
                raise MalformedInput(
                    f'input "{tensor.name}" has {len(array)} rows, input "{first}" has {rows}; all need the same number'
                )
        if rows == 0:
            raise MalformedInput("the request has no rows; send at least one")
        return rows

    def payload(self, arrays: tuple[Array, ...], style: str = "") -> Payload:
        """The payload of fitted arrays. Raises MalformedInput if their numbers of rows differ or are 0."""
        return Payload(arrays, self.rows(arrays), style)

    def checked(self, payload: Payload, literals: bool) -> Payload:
        """The payload; with ``literals`` its values are checked. Raises UnprocessableInput."""
        if literals:
            for array, tensor in zip(payload.arrays, self.spec.inputs, strict=True):
                check_values(array, tensor)
        return payload

    def arrange(self, named: Mapping[str, T]) -> list[T]:
        """The values in the model's order. Raises MalformedInput for an unknown or a missing input."""
        if named.keys() != self.names:
            for name in named:
                if name not in self.names:
                    raise self.unknown(name)
            missing = next(name for name in self.names if name not in named)
            raise MalformedInput(f'input "{missing}" is missing; the model has {self._known()}')
        return [named[tensor.name] for tensor in self.spec.inputs]

    def unknown(self, name: str) -> MalformedInput:
        """The error for an input that the model does not have."""
        return MalformedInput(f"unknown input {shown(name)}; the model has {self._known()}")

    def _known(self) -> str:
        return ", ".join(f'"{name}"' for name in self.names)


def decode_plan(spec: ModelSpec) -> DecodePlan:
    """The decode plan of a model. Cached by identity: hashing a spec would cost more than the rest of a decode."""
    plan = _plans.get(id(spec))
    if plan is None:
        if len(_plans) >= _MAX_REMEMBERED:  # a plan keeps its spec alive, so no other spec gets its id
            _plans.clear()
        plan = _plans[id(spec)] = DecodePlan(spec)
    return plan


def check_shape(shape: tuple[int, ...], spec: TensorSpec) -> None:
    """Raises MalformedInput unless the spec accepts the shape and an array of it can exist."""
    check_size(shape)
    if not spec.accepts(shape):
        raise MalformedInput(
            f'input "{spec.name}" has shape {describe_shape(shape)}, expected {describe_shape(spec.shape)}'
        )


def check_size(shape: Sequence[int]) -> None:
    """Raises MalformedInput for sizes beyond any array, also if one of them is 0."""
    if len(shape) <= _FEW_AXES and max(shape, default=0) <= _MODEST_SIZE:
        return
    if prod(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        raise MalformedInput(f"no array has the shape {describe_shape(tuple(shape))[:80]}; send the real sizes")


def check_values(array: Array, spec: TensorSpec) -> None:
    """Raises UnprocessableInput with the place of the first NaN or infinity that the input does not accept."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    refused = np.zeros(array.shape, bool)
    if not spec.missing:
        refused |= np.isnan(array)
    if not spec.infinite:
        refused |= np.isinf(array)
    if not refused.any():
        return
    place = tuple(int(index) for index in np.argwhere(refused)[0])
    where = "".join(f"[{index}]" for index in place)
    value, remedy = ("NaN", _NO_MISSING) if np.isnan(array[place]) else ("infinite", "send finite numbers")
    raise UnprocessableInput(f'input "{spec.name}" is {value}{where and " at "}{where}; {remedy}')


def fit(array: Array, spec: TensorSpec) -> Array:
    """``array`` in the form that the model takes: its shape and dtype, native byte order, C-contiguous, aligned.

    NaN and infinity pass only if the input accepts them.

    Casts: between floats and between integers when every value is in range, and integers to floats; nothing else.
    The result is the array itself if nothing had to change. Raises MalformedInput or UnprocessableInput.
    """
    check_shape(array.shape, spec)
    want = spec.dtype.numpy
    if want.kind == "O":
        array = _strings(array, spec)
    elif array.dtype != want:
        check_values(array, spec)
        array = _cast(array, spec)
    else:
        check_values(array, spec)
    return np.require(array, want, ("C", "A"))


def with_batch_axis(array: Array, spec: TensorSpec) -> Array:
    """``array`` as one row if it lacks just the batch axis of the input."""
    lacks = array.ndim == len(spec.shape) - 1 and spec.shape[0] in (-1, 1)
    return array[np.newaxis] if lacks else array


def _cast(array: Array, spec: TensorSpec) -> Array:
    have, want = array.dtype, spec.dtype.numpy
    if have.kind + want.kind not in ("ff", "ii", "uu", "iu", "ui", "if", "uf"):
        raise MalformedInput(
            f'input "{spec.name}" has dtype {have.name}, expected {want.name}; convert it before sending'
        )
    with np.errstate(over="ignore"):
        cast: Array = array.astype(want)
    if want.kind == "f":  # noqa: SIM108 - two rules, one line each
        lost = np.isinf(cast) & np.isfinite(array)
    else:
        lost = (cast != array) | ((cast < 0) != (array < 0))
    if lost.any():
        place = tuple(int(index) for index in np.argwhere(lost)[0])
        where = "".join(f"[{index}]" for index in place)
        raise MalformedInput(
            f'input "{spec.name}": {array[place]}{where and " at "}{where} is out of the range of {want.name}'
        )
    return cast


def _strings(array: Array, spec: TensorSpec) -> Array:
    if array.dtype.kind == "O":
        return array
    if array.dtype.kind not in "US":
        raise MalformedInput(f'input "{spec.name}" has dtype {array.dtype.name}, expected strings')
    strings = np.empty(array.shape, object)
    if spec.dtype is RAW_BYTES and array.dtype.kind == "S":
        strings[...] = array  # its items are bytes already
        return strings
    try:
        texts = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
        strings[...] = texts
        "".join(strings.flat).encode()
    except (UnicodeError, ValueError, SystemError) as error:
        raise MalformedInput(f'input "{spec.name}" holds bytes that are not text in UTF-8') from error
    return strings
