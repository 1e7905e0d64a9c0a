"""Servers that several tests share: starting one costs more than most tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.server_process import ServerProcess, server_process

Serve = Callable[..., ServerProcess]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(model, *flags, environ=...)``: a server of the test's own, not yet waited for."""
    with ExitStack() as stack:
        count = iter(range(100))

        def start(model: Path | None, *arguments: str, environ: dict[str, str] | None = None) -> ServerProcess:
            directory = tmp_path / f"server-{next(count)}"
            return stack.enter_context(server_process(directory, model, *arguments, environ=environ))

        yield start


@pytest.fixture(scope="session")
def mlp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The MLP from a bare ONNX file, with a small body limit."""
    directory = tmp_path_factory.mktemp("mlp")
    model = sample_models.mlp(directory / "mlp.onnx")
    with server_process(directory, model, "--max-body-mb", "0.1") as server:
        yield server.ready()


@pytest.fixture(scope="session")
def inline_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A fake model that is fast enough to run on the event loop, under a name that needs percent-encoding."""
    directory = tmp_path_factory.mktemp("inline")
    model = sample_models.fake(directory / "model", name="no/such thing?", poison=666, exit=667)
    with server_process(directory, model) as server:
        yield server.ready()


@pytest.fixture(scope="session")
def waiting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A fake model whose run takes 60 ms without computing: requests that are sent together share a batch."""
    directory = tmp_path_factory.mktemp("waiting")
    model = sample_models.fake(directory / "model", poison=666, exit=667, wait_us=60_000)
    with server_process(directory, model, "--max-queue-ms", "20000") as server:
        yield server.ready()
