"""The contract of the zoo: every answer equals the source's, alone, large, side by side and beside hostile requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exchange import Response, Route
from .model import Tensors, ZooModel
from .routes import ROUTES
from .served import Case, Connections, Resident
from .v2_client import v2_binary, v2_binary_read

AT_ONCE = 8
HOSTILE: dict[str, float] = {
    "nan": np.nan, "infinite": np.inf, "large": 3e4, "huge": 1e30, "very negative": -3e4, "zero": 0.0,
    "overflowing": 3.4e38, "impossible": 1e6,
}  # fmt: skip
"""Hostile values by name. The impossible one is an integer, for models without float inputs."""
WAVES = 3
JSON_ROUTES = frozenset(("v2-json", "instances", "columns", "jsonlines"))
LARGE_ROUTES = frozenset(("v2-binary", "instances", "csv"))
REFUSED_VALUES = frozenset(((400, "malformed_input"), (422, "unprocessable_input"), (500, "model_failed")))
"""Refusals of a hostile request: its values are out of range, or the model failed on them."""

BINARY = next(route for route in ROUTES if route.receive is v2_binary_read and route.send is v2_binary)

REFUSED_DEADLINES = frozenset(((429, "overloaded"), (504, "deadline_exceeded")))


@dataclass(frozen=True, slots=True)
class Fault:
    """A response that is not right."""

    model: str
    route: str
    situation: str
    found: str

    def __str__(self) -> str:
        return f"{self.model}, {self.route}, {self.situation}: {self.found}"


def alone(resident: Resident, connections: Connections) -> Iterator[Fault]:
    """Ordinary requests, one at a time, through every route that can carry them."""
    for inputs, expected in resident.cases([(rows, rows) for rows in resident.zoo.row_counts]):
        rows = len(next(iter(inputs.values()))) if resident.shapes.rowwise else 1
        for route in ROUTES:
            if route.carries(inputs, expected, resident.shapes):
                yield from _ask(resident, route, inputs, expected, connections, f"{rows} rows alone")


def large(resident: Resident, connections: Connections) -> Iterator[Fault]:
    """One request with more rows than a batch holds, in the formats of large requests."""
    rows = resident.zoo.large_rows
    if not rows:
        return
    inputs, expected = resident.case(rows, rows)
    for route in ROUTES:
        if route.name in LARGE_ROUTES and route.carries(inputs, expected, resident.shapes):
            yield from _ask(resident, route, inputs, expected, connections, f"{rows} rows")


def side_by_side(resident: Resident, connections: Connections) -> Iterator[Fault]:
    """Distinct requests of several sizes at once."""
    cases = _pool(resident)
    for wave in range(WAVES):
        together = cases[AT_ONCE * wave : AT_ONCE * (wave + 1)]
        yield from _together(resident, together, connections, f"{AT_ONCE} requests at once")


def hostile(resident: Resident, connections: Connections) -> Iterator[Fault]:
    """One request with NaN, infinity, huge or impossible values among ordinary ones, which must not notice it."""
    rows = max(resident.zoo.row_counts[:2])
    cases = _pool(resident)
    for wave, value in enumerate(HOSTILE):
        spoiled = spoil(resident.zoo, resident.zoo.inputs(np.random.default_rng(5_000 + wave), rows), value)
        if spoiled is None:
            continue
        place = wave % AT_ONCE
        beside = [cases[(AT_ONCE * wave + index) % len(cases)] for index in range(AT_ONCE - 1)]
        sent = [v2_binary(resident.name, inputs, expected) for inputs, expected in beside]
        sent.insert(place, v2_binary(resident.name, spoiled, {}))
        responses = connections.send(sent)
        situation = f"beside a request with {value} values"
        yield from judge_hostile(resident, spoiled, responses.pop(place), f"a request with {value} values")
        for (_, expected), response in zip(beside, responses, strict=True):
            yield from judge(resident, BINARY, expected, response, situation)


def given_up(resident: Resident, connections: Connections) -> Iterator[Fault]:
    """Ordinary requests among ones whose client leaves or whose deadline passes; the latter may be answered too."""
    cases = _pool(resident)
    sent = [v2_binary(resident.name, inputs, expected) for inputs, expected in cases]
    for wave in range(WAVES):
        first = AT_ONCE * wave
        hurried = replace(sent[first], headers={**sent[first].headers, "X-Request-Deadline-Ms": "0.5"})
        connections.leave(sent[first + 1])
        responses = connections.send([hurried, *sent[first + 2 : first + AT_ONCE]])
        late = responses.pop(0)
        if late is None or _refusal(late) not in REFUSED_DEADLINES:
            yield from judge(resident, BINARY, cases[first][1], late, "a request with a short deadline")
        for (_, expected), response in zip(cases[first + 2 : first + AT_ONCE], responses, strict=True):
            yield from judge(resident, BINARY, expected, response, "beside requests that are given up")


def _pool(resident: Resident) -> list[Case]:
    """Distinct ordinary requests of several sizes."""
    counts = resident.zoo.row_counts
    return resident.cases([(100 + number, counts[number % len(counts)]) for number in range(AT_ONCE * WAVES)])


def judge_hostile(resident: Resident, inputs: Tensors, response: Response | None, situation: str) -> Iterator[Fault]:
    """A hostile request gets the answer of its model file in a bare session, or a refusal of its values.

    Converters do not promise that the file treats NaN as the source does, so the file itself is the judge.
    """
    if response is not None and response.status != 200 and _refusal(response) in REFUSED_VALUES:
        return
    try:
        expected = resident.by_file(inputs)
    except Exception as error:  # noqa: BLE001 - the refusal of the session, of any class
        yield Fault(resident.name, BINARY.name, situation, f"{_shown(response)}; a session refuses: {error}"[:300])
        return
    yield from judge(resident, BINARY, expected, response, situation)


def spoil(zoo: ZooModel, inputs: dict[str, NDArray[Any]], value: str) -> dict[str, NDArray[Any]] | None:
    """The first row made hostile in every float input; None where the model has no place for the value."""
    spoiled = {name: array.copy() for name, array in inputs.items()}
    floats = [array for array in spoiled.values() if array.dtype.kind == "f" and array.ndim and array.size]
    if value != "impossible":
        for array in floats:
            limit = float(np.finfo(array.dtype).max)
            array[0] = np.clip(HOSTILE[value], -limit, limit) if np.isfinite(HOSTILE[value]) else HOSTILE[value]
        return spoiled if floats else None
    whole = [array for array in spoiled.values() if array.dtype == np.int64 and array.ndim and array.size]
    if floats or not whole or not zoo.independent:
        return None
    for array in whole:
        array.reshape(-1)[0] = HOSTILE[value]
    return spoiled


def agreement(zoo: ZooModel, expected: Tensors, found: Tensors, json_values: bool = False) -> str:
    """Empty where ``found`` is the right answer, else the first difference.

    ``json_values``: the format has no infinity; infinities and NaN are one value.
    """
    if found.keys() != expected.keys():
        return f"outputs {sorted(found)}, right are {sorted(expected)}"
    for name, right in expected.items():
        have = found[name]
        if json_values and have.size == right.size == 0:
            continue
        if have.shape != right.shape or have.dtype != right.dtype:
            return f"{name} is {have.dtype} {have.shape}, right is {right.dtype} {right.shape}"
        if not _equal(have, right, zoo, json_values):
            return f"{name} is {have.reshape(-1)[:6].tolist()}, right is {right.reshape(-1)[:6].tolist()}"[:400]
    return ""


def _equal(have: NDArray[Any], right: NDArray[Any], zoo: ZooModel, json_values: bool) -> bool:
    if have.dtype.kind == "O":
        return bool(have.tolist() == right.tolist())
    if have.dtype.kind in "iub":
        return bool(np.array_equal(have, right))
    a, b = have.astype(np.float64), right.astype(np.float64)
    if json_values:
        a, b = (np.where(np.isfinite(one), one, np.nan) for one in (a, b))
    return bool(np.allclose(a, b, zoo.rtol, zoo.atol, equal_nan=True))


def _ask(
    resident: Resident, route: Route, inputs: Tensors, expected: Tensors, connections: Connections, situation: str
) -> Iterator[Fault]:
    (response,) = connections.send([route.send(resident.name, inputs, expected)])
    yield from judge(resident, route, expected, response, situation)


def _together(
    resident: Resident,
    cases: Sequence[Case],
    connections: Connections,
    situation: str,
) -> Iterator[Fault]:
    responses = connections.send([v2_binary(resident.name, inputs, expected) for inputs, expected in cases])
    for (_, expected), response in zip(cases, responses, strict=True):
        yield from judge(resident, BINARY, expected, response, situation)


def judge(
    resident: Resident, route: Route, expected: Tensors, response: Response | None, situation: str
) -> Iterator[Fault]:
    """The fault of a response, if it is neither the right answer nor the refusal that the model declares."""
    declared = resident.zoo.refusals.get(route.name)
    if declared is not None:
        if response is None or _refusal(response) != (declared.status, declared.code):
            yield Fault(resident.name, route.name, situation, f"{_shown(response)}; declared is {declared}")
        return
    if response is None or response.status != 200:
        yield Fault(resident.name, route.name, situation, _shown(response))
        return
    try:
        found = route.receive(response, expected)
    except Exception as error:  # noqa: BLE001 - whatever the client cannot read is the server's fault
        yield Fault(resident.name, route.name, situation, f"cannot be read: {error!r}; {_shown(response)}")
        return
    difference = agreement(resident.zoo, expected, found, route.name in JSON_ROUTES)
    if difference:
        yield Fault(resident.name, route.name, situation, difference)


def _refusal(response: Response) -> tuple[int, str]:
    try:
        return response.status, str(json.loads(response.body)["code"])
    except (ValueError, KeyError, TypeError):
        return response.status, ""


def _shown(response: Response | None) -> str:
    return "no end" if response is None else f"{response.status} {response.body[:200]!r}"
