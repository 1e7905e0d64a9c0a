"""Zoo models after ``optimize``: the artifact answers as the source does. ``tests.benchmarks.zoo`` takes all models."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import contract
from .conftest import ServedZoo
from .optimized import optimize
from .served import load

pytestmark = pytest.mark.timeout(900)  # the first test waits until all models are built and loaded

REPRESENTATIVES = ("lstm-time-first", "missing-values")
"""A model whose rows depend on each other, and one that takes NaN. A run of the command takes seconds."""


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_an_artifact_answers_as_its_source(zoo: ServedZoo, name: str, tmp_path: Path) -> None:
    found = optimize(zoo.residents[name], tmp_path, "--candidates", "fused")
    assert found.artifact is not None, found.words
    loaded = load(zoo.server, found.artifact)
    assert loaded.status == 200, loaded.body
    faults = [
        str(fault)
        for situation in (contract.alone, contract.large, contract.side_by_side, contract.hostile)
        for fault in situation(found.artifact, zoo.connections)
    ]
    assert not faults, "\n".join(faults)
