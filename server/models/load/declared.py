"""Declared tensors: a model's inputs and outputs as its config says, checked against the model, and reshaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...backends import Session
from ...declaration import Declaration, DeclaredTensor
from ...errors import BrokenArtifact
from ...tensors import Array, ModelSpec, TensorSpec, describe_shape

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reshape:
    """One tensor: its place among the model's own, and the shapes without the batch axis, which ``rows`` says is there.

    ``given`` is reshaped into ``wanted``; None: nothing to do.
    """

    place: int
    rows: bool
    given: Shape = ()
    wanted: Shape | None = None

    def of(self, array: Array) -> Array:
        """The array in the other shape. The axes of any size keep their sizes, in their order."""
        if self.wanted is None:
            return array
        sizes = array.shape[self.rows :]
        free = iter([size for size, given in zip(sizes, self.given, strict=True) if given == -1])
        inner = tuple(next(free) if size == -1 else size for size in self.wanted)
        return array.reshape((*array.shape[: self.rows], *inner))


class DeclaredSession:
    """The session of a model whose tensors have another order, narrower axes or other shapes outside than inside."""

    def __init__(
        self, session: Session, spec: ModelSpec, inputs: Sequence[Reshape], outputs: Sequence[Reshape]
    ) -> None:
        self.spec = spec
        self.session = session
        self._inputs = sorted(enumerate(inputs), key=lambda pair: pair[1].place)
        self._outputs = outputs

    def run(self, batch: Sequence[Array]) -> list[Array]:
        results = self.session.run([one.of(batch[at]) for at, one in self._inputs])
        return [one.of(results[one.place]) for one in self._outputs]

    def close(self) -> None:
        self.session.close()


def as_declared(session: Session, declaration: Declaration) -> Session:
    """The session as its declaration says; the same one where that says nothing else than the model.

    Raises BrokenArtifact, naming the tensor, where the two contradict each other.
    """
    if not (declaration.inputs or declaration.outputs or declaration.max_batch_size):
        return session
    spec = session.spec
    try:
        _require_rows(spec, declaration)
        inputs = _matched(declaration.inputs, spec.inputs, "input", declaration.max_batch_size)
        outputs = _matched(declaration.outputs, spec.outputs, "output", declaration.max_batch_size)
        lacking = {one.name for one in spec.inputs} - {one.name for one, _ in inputs}
        if lacking:
            raise BrokenArtifact(f"the input {min(lacking)!r} of the model is not in it")
    except BrokenArtifact as error:
        raise BrokenArtifact(f"{declaration.file}: {error}") from error
    outside = ModelSpec(tuple(one for one, _ in inputs), tuple(one for one, _ in outputs))
    if outside == spec:
        return session
    return DeclaredSession(session, outside, [how for _, how in inputs], [how for _, how in outputs])


def _require_rows(spec: ModelSpec, declaration: Declaration) -> None:
    if declaration.max_batch_size and any(one.shape[:1] != (-1,) for one in (*spec.inputs, *spec.outputs)):
        raise BrokenArtifact(
            f"max_batch_size is {declaration.max_batch_size}, and the model has no batch axis of any size that all "
            "its inputs and outputs share: set it to 0, and write the dims in full"
        )


def _matched(
    declared: Sequence[DeclaredTensor], own: Sequence[TensorSpec], kind: str, batch: int | None
) -> list[tuple[TensorSpec, Reshape]]:
    """Each declared tensor as clients see it, and how it becomes the model's own. All of ``own`` for no declaration."""
    if not declared:
        return [(one, Reshape(place, rows=False)) for place, one in enumerate(own)]
    by_name = {one.name: place for place, one in enumerate(own)}
    found: list[tuple[TensorSpec, Reshape]] = []
    for want in declared:
        place = by_name.pop(want.name, None)
        if place is None:
            again = " twice" if any(one.name == want.name for one, _ in found) else ""
            names = ", ".join(one.name for one in own)
            raise BrokenArtifact(f"it names the {kind} {want.name!r}{again}; the model has {names}")
        have = own[place]
        if want.dtype.name != have.dtype.name:
            raise BrokenArtifact(f"the {kind} {want.name!r} is {want.dtype.name}, and {have.dtype.name} in the model")
        inner = want.shape if want.inner is None else want.inner
        rows = bool(batch) or (batch is None and len(have.shape) == len(inner) + 1 and have.shape[0] == -1)
        narrowed = _narrowed((-1, *inner) if rows else inner, have, kind)
        outer, axes = narrowed, have.axes
        reshape = Reshape(place, rows)
        if want.inner is not None and want.inner != want.shape:
            outer, axes = (*narrowed[: int(rows)], *want.shape), ()
            given, wanted = (want.shape, inner) if kind == "input" else (inner, want.shape)
            reshape = Reshape(place, rows, given, wanted)
        found.append((replace(have, shape=outer, axes=axes), reshape))
    return found


def _narrowed(want: Shape, have: TensorSpec, kind: str) -> Shape:
    """The declared shape, with the model's own size for each axis that is declared as any size."""
    fits = len(want) == len(have.shape) and all(
        -1 in pair or pair[0] == pair[1] for pair in zip(want, have.shape, strict=True)
    )
    if not fits:
        raise BrokenArtifact(
            f"the {kind} {have.name!r} is {describe_shape(want)} with its batch axis, and "
            f"{describe_shape(have.shape)} in the model"
        )
    return tuple(own if size == -1 else size for size, own in zip(want, have.shape, strict=True))
