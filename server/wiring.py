"""The declaration of a pipeline: its steps, and the value that each of their inputs takes. People write it as JSON."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from .errors import BrokenArtifact
from .tensors import ModelSpec, TensorSpec, describe_shape

PIPELINE = "pipeline.json"
REQUEST = "request"
"""The origin of the request's own values, where a value is named with its origin: ``request.text``."""

STEP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
STEP_KEYS = ("name", "backend", "artifact", "file", "inputs", "batch_sizes", "instances", "threads")
PIPELINE_KEYS = ("name", "version", "task", "steps", "outputs", "dimensions")


@dataclass(frozen=True, slots=True)
class StepDeclaration:
    """One step: a ``backend`` of its own with an optional ``file`` and ``options``, or another ``artifact`` (a folder).

    ``inputs``: the step's name of an input to the value that it is, where the two are not named alike.
    """

    name: str
    backend: str = ""
    artifact: str = ""
    file: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    batch_sizes: tuple[int, ...] = ()
    instances: int = 0
    threads: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {key: getattr(self, key) for key in STEP_KEYS if getattr(self, key)}
        if self.batch_sizes:
            body["batch_sizes"] = list(self.batch_sizes)
        return {**body, **({"inputs": dict(self.inputs)} if self.inputs else {}), **self.options}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps in the order in which a request passes them; ``outputs`` are values, by default the last step's.

    ``dimensions``: the sizes to which the vectors of this model may be cut, as its training allows (Matryoshka).
    """

    steps: tuple[StepDeclaration, ...]
    outputs: tuple[str, ...] = ()
    name: str = ""
    version: str = ""
    task: str = ""
    dimensions: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"steps": [step.to_json() for step in self.steps]}
        if self.dimensions:
            body["dimensions"] = list(self.dimensions)
        return {**body, "outputs": list(self.outputs)} if self.outputs else body

    @classmethod
    def from_json(cls, body: Any, where: str = PIPELINE) -> Pipeline:
        """Raises BrokenArtifact with the fault, the step, and the nearest known key for a misspelt one."""
        if not isinstance(body, dict):
            raise BrokenArtifact(f"{where} must hold one JSON object")
        refuse_unknown(body, PIPELINE_KEYS, where)
        rows = body.get("steps")
        if not isinstance(rows, list) or not rows:
            raise BrokenArtifact(f"{where}: 'steps' must be a list of at least one step")
        steps = tuple(_step(row, index, where) for index, row in enumerate(rows))
        names = [step.name for step in steps]
        for name in names:
            if names.count(name) > 1:
                raise BrokenArtifact(f"{where}: two steps are named {name!r}")
        texts = {key: _text(body, key, where) for key in ("name", "version", "task")}
        outputs = tuple(_texts(body.get("outputs", []), "outputs", where))
        return cls(steps, outputs, **texts, dimensions=_sizes(body, "dimensions", where))


@dataclass(frozen=True, slots=True)
class Wiring:
    """Values by number: first the request's own, then the outputs of each step in turn.

    ``inputs`` are the numbers that each step takes, ``outputs`` those that leave the pipeline; ``spec`` is what the
    pipeline looks like from outside.
    """

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]
    spec: ModelSpec


@dataclass(slots=True)
class _Values:
    """The values that a step can take: number, origin and spec of each."""

    rows: list[tuple[str, TensorSpec]]
    later: dict[str, str]

    def find(self, name: str) -> int | None:
        """The nearest earlier value of that name; with its origin before a point, just that one."""
        for index in reversed(range(len(self.rows))):
            origin, spec = self.rows[index]
            if name in (spec.name, f"{origin}.{spec.name}"):
                return index
        return None

    def known(self) -> str:
        return ", ".join(f"{origin}.{spec.name}" for origin, spec in self.rows)


def wire(pipeline: Pipeline, specs: Sequence[ModelSpec]) -> Wiring:
    """Connect steps of these specs. The request brings what the first step wants.

    Raises BrokenArtifact naming the step, the input, and the values that there are: an input that no earlier step
    gives, or of another datatype or shape.
    """
    steps = list(zip(pipeline.steps, specs, strict=True))
    later = {spec.name: step.name for step, own in reversed(steps) for spec in own.outputs}
    first = steps[0][0]
    values = _Values([(REQUEST, spec) for spec in specs[0].inputs], later)
    if first.inputs:
        raise BrokenArtifact(f"step {first.name!r} is the first: its inputs are the request's; take 'inputs' away")
    taken = []
    for step, spec in steps:
        refuse_unknown(step.inputs, [one.name for one in spec.inputs], f"step {step.name!r}: its inputs")
        taken.append(tuple(_connect(step, one, values) for one in spec.inputs))
        values.rows += [(step.name, one) for one in spec.outputs]
    outputs = tuple(_output(name, values) for name in pipeline.outputs)
    if not outputs:
        outputs = tuple(range(len(values.rows) - len(specs[-1].outputs), len(values.rows)))
    names = [values.rows[index][1].name for index in outputs]
    if len(set(names)) < len(names):
        raise BrokenArtifact(f"two outputs of the pipeline have one name: {', '.join(names)}")
    return Wiring(tuple(taken), outputs, ModelSpec(specs[0].inputs, tuple(values.rows[index][1] for index in outputs)))


def refuse_unknown(given: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raises BrokenArtifact for the first name that is not known, with the nearest that is."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f"the nearest is {near[0]!r}" if near else f"there are {', '.join(known) or 'none'}"
            raise BrokenArtifact(f"{where}: {name!r} is not known; {hint}")


def _connect(step: StepDeclaration, want: TensorSpec, values: _Values) -> int:
    name = step.inputs.get(want.name, want.name)
    index = values.find(name)
    if index is None:
        bare = name.rpartition(".")[2]
        if bare in values.later:
            why = f"only step {values.later[bare]!r} gives it, which is not before this one: steps cannot form a circle"
        else:
            why = "no step gives it"
        raise BrokenArtifact(f"step {step.name!r} wants {name!r}: {why}; there are {values.known()}")
    origin, have = values.rows[index]
    same_rank = len(have.shape) == len(want.shape)
    fits = same_rank and all(-1 in pair or pair[0] == pair[1] for pair in zip(have.shape, want.shape, strict=True))
    if have.dtype is not want.dtype or not fits:
        raise BrokenArtifact(
            f"step {step.name!r} wants {want.name!r} as {want.dtype.name} {describe_shape(want.shape)}; {origin}."
            f"{have.name} is {have.dtype.name} {describe_shape(have.shape)}"
        )
    return index


def _output(name: str, values: _Values) -> int:
    index = values.find(name)
    if index is None:
        raise BrokenArtifact(f"the pipeline's output {name!r} is given by no step; there are {values.known()}")
    return index


def _step(row: Any, index: int, where: str) -> StepDeclaration:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not STEP_NAME.fullmatch(row["name"]):
        raise BrokenArtifact(f"{where}: step {index} must be an object with a name of letters, digits, '_' and '-'")
    here = f"{where}: step {row['name']!r}"
    if row["name"] == REQUEST:
        raise BrokenArtifact(f"{here}: this name stands for what the request brought; choose another")
    if ("backend" in row) == ("artifact" in row):
        raise BrokenArtifact(f"{here} needs either a 'backend' or an 'artifact' (the folder of one)")
    if "artifact" in row:
        refuse_unknown(row, ("name", "artifact", "inputs"), here)
    inputs = row.get("inputs", {})
    if not isinstance(inputs, dict) or not all(isinstance(value, str) for value in inputs.values()):
        raise BrokenArtifact(f"{here}: 'inputs' must be an object: the step's name of an input to the value that it is")
    return StepDeclaration(
        name=row["name"],
        backend=_text(row, "backend", here),
        artifact=inside(_text(row, "artifact", here), here),
        file=inside(_text(row, "file", here), here),
        inputs=inputs,
        batch_sizes=_sizes(row, "batch_sizes", here),
        instances=_count(row, "instances", here),
        threads=_count(row, "threads", here),
        options={key: value for key, value in row.items() if key not in STEP_KEYS},
    )


def inside(path: str, where: str) -> str:
    """A path that stays inside the artifact, or nothing. A declaration is untrusted input."""
    pure = PurePosixPath(path)
    if path and (pure.is_absolute() or ".." in pure.parts):
        raise BrokenArtifact(f"{where} names {path!r}, which is not inside the artifact")
    return path


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str):
        raise BrokenArtifact(f"{where}: {key!r} must be text, got {repr(value)[:80]}")
    return value


def _texts(value: Any, key: str, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BrokenArtifact(f"{where}: {key!r} must be a list of texts, got {repr(value)[:80]}")
    return value


def _sizes(row: Mapping[str, Any], key: str, where: str) -> tuple[int, ...]:
    """Whole numbers from the smallest to the largest, each once."""
    sizes = row.get(key, [])
    if not isinstance(sizes, list) or not all(type(size) is int and size > 0 for size in sizes):
        raise BrokenArtifact(f"{where}: {key!r} must be a list of whole numbers, 1 or more")
    return tuple(sorted(set(sizes)))


def _count(row: Mapping[str, Any], key: str, where: str) -> int:
    value = row.get(key, 1)
    if type(value) is not int or value < 1:
        raise BrokenArtifact(f"{where}: {key!r} must be a whole number, 1 or more, got {repr(value)[:80]}")
    return value if key in row else 0
