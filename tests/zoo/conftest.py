"""The zoo in one server, built and loaded once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.server_process import ServerProcess

from .served import Connections, Resident, build, served
from .zoo import ZOO


@dataclass(frozen=True, slots=True)
class ServedZoo:
    """The server, connections to it, and the models by name."""

    server: ServerProcess
    connections: Connections
    residents: dict[str, Resident]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedZoo]:
    """Every model of the zoo in one server of its own."""
    directory = tmp_path_factory.mktemp("zoo")
    residents = build(ZOO, directory / "models")
    with served(residents, directory) as server, Connections(server.port, 8) as connections:
        yield ServedZoo(server, connections, {one.name: one for one in residents})


def pytest_make_parametrize_id(val: Any) -> str | None:
    """Tests carry the names of zoo models."""
    return val.name if hasattr(val, "why") else None
