"""Every zoo model through every route that can carry it: each answer equals the source's, and each request ends.

All tests share one server, so they are one file: ``--dist loadfile`` gives it to one worker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.integration.server_process import eventually

from . import contract
from .conftest import ServedZoo
from .contract import Fault
from .model import ZooModel
from .optimized import optimize
from .routes import ROUTES
from .served import Connections, Resident, load
from .v2_client import v2_binary
from .zoo import ZOO

pytestmark = pytest.mark.timeout(900)  # the first test waits until all models are built and loaded

SERVED = [one for one in ZOO if not one.load_error]
REFUSED = [one for one in ZOO if one.load_error]
REPRESENTATIVES = ("lstm-time-first", "missing-values")
"""Go through ``optimize``, which takes seconds: a model whose rows depend on each other, and one that takes NaN.
``tests.benchmarks.zoo --optimize`` takes all models."""

KNOWN_FAULTS: dict[tuple[str, str], str] = {}
"""(situation, model) to the fault that is not mended yet."""


SITUATIONS = (contract.alone, contract.large, contract.side_by_side, contract.hostile, contract.given_up)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("one", SERVED)
def test_each_response_is_that_of_the_source(
    zoo: ServedZoo,
    one: ZooModel,
    situation: Callable[[Resident, Connections], Iterator[Fault]],
    request: pytest.FixtureRequest,
) -> None:
    # A known fault must still be there, so that its entry is removed once it is mended.
    known = KNOWN_FAULTS.get((situation.__name__, one.name))
    if known is not None:
        request.applymarker(pytest.mark.xfail(reason=known, strict=True))
    resident = zoo.residents[one.name]
    assert resident.loaded is not None
    assert resident.loaded.status == 200, resident.loaded.body
    faults = [str(fault) for fault in situation(resident, zoo.connections)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("one", REFUSED)
def test_a_model_that_cannot_be_served_is_refused_at_load_with_the_remedy(zoo: ServedZoo, one: ZooModel) -> None:
    loaded = zoo.residents[one.name].loaded
    assert loaded is not None
    assert json.loads(loaded.body)["code"] == one.load_error
    assert one.remedy in json.loads(loaded.body)["error"]


@pytest.mark.parametrize("one", SERVED)
def test_requests_share_runs_only_if_rows_are_independent(zoo: ServedZoo, one: ZooModel) -> None:
    metadata = zoo.server.get(f"/v2/models/{quote(one.name)}").json()
    told = metadata.get("parameters", {"independent_rows": True})
    assert told["independent_rows"] == (one.independent and one.decidable), metadata
    assert told["independent_rows"] or told["batching_reason"]
    (version,) = zoo.server.get(f"/admin/models/{quote(one.name)}").json()["versions"]
    assert version["independent_rows"] == told["independent_rows"]
    if one.name == "missing-values":
        assert metadata["inputs"][0]["parameters"] == {"missing": True}


@pytest.mark.parametrize("name", ["dtype-float64", "ridge", "torch-perceptron"])
def test_requests_at_once_do_share_runs(zoo: ServedZoo, name: str) -> None:
    cases = zoo.residents[name].cases([(number, 1) for number in range(contract.AT_ONCE)])
    asked = [v2_binary(name, inputs, expected) for inputs, expected in cases]
    timed = [replace(one, headers={**one.headers, "X-Slipway-Timing": "1"}) for one in asked]

    def shared() -> bool:
        responses = zoo.connections.send(timed)
        runs = [one and re.search(r'batch;desc="(\d+)"', one.headers["server-timing"]) for one in responses]
        return any(rows and int(rows[1]) > 1 for rows in runs)

    eventually(shared, "several requests of one row in one run")


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_an_artifact_answers_as_its_source(zoo: ServedZoo, name: str, tmp_path: Path) -> None:
    found = optimize(zoo.residents[name], tmp_path, "--candidates", "fused")
    assert found.artifact is not None, found.words
    loaded = load(zoo.server, found.artifact)
    assert loaded.status == 200, loaded.body
    faults = [str(fault) for situation in SITUATIONS for fault in situation(found.artifact, zoo.connections)]
    assert not faults, "\n".join(faults)


def test_every_model_has_a_name_of_its_own() -> None:
    assert len({one.name for one in ZOO}) == len(ZOO)


def test_every_route_carries_some_model(zoo: ServedZoo) -> None:
    carried = {
        route.name
        for one in SERVED
        for route in ROUTES
        for inputs, expected in [zoo.residents[one.name].case(one.row_counts[0], one.row_counts[0])]
        if route.carries(inputs, expected, zoo.residents[one.name].shapes)
    }
    assert carried == {route.name for route in ROUTES}
