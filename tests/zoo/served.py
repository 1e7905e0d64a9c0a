"""The zoo on disk and in one server: builds all models, loads them, and sends requests over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.integration.server_process import ServerProcess, server_process

from .exchange import Response, Sent, Shapes
from .model import Answer, Tensors, ZooModel
from .onnx_graph import open_session

PATIENCE_S = 20.0
"""Longest wait for a response; a request that takes longer counts as one without an end."""

FLAGS = (
    *("--multi-model", "--threads", "1", "--instances", "1", "--tune-ms", "0"),
    *("--max-queue-ms", "60000", "--max-body-mb", "100", "--keep-alive-s", "3600"),
)


Case = tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]
"""Inputs and right outputs of one request."""


@dataclass
class Resident:
    """A zoo model on disk, its source, and what loading it into the server gave.

    ``path`` is the model file that the source opens, ``folder`` the one that the server loads.
    """

    zoo: ZooModel
    path: Path
    folder: Path
    loaded: Response | None = None
    _cases: dict[tuple[int, int], Case] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.zoo.name

    @cached_property
    def source(self) -> Answer:
        """The framework that the model comes from."""
        return self.zoo.source(self.path)

    @cached_property
    def _session(self) -> Answer:
        return self.source if self.zoo.judged_by_source else open_session(self.path)

    def by_file(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """The answer of the model file in a bare session, to one request alone."""
        return {name: np.asarray(value) for name, value in self._session(inputs).items()}

    @cached_property
    def shapes(self) -> Shapes:
        """The layout of the inputs, seen on two requests of 11 rows."""
        drawn = [self.zoo.inputs(np.random.default_rng(seed), 11) for seed in (1, 2)]
        rowwise = bool(drawn[0]) and all(array.shape[:1] == (11,) for one in drawn for array in one.values())
        folded = len(drawn[0]) == 1 and len({array.shape[1:] for one in drawn for array in one.values()}) == 1
        return Shapes(rowwise, folded)

    def case(self, seed: int, rows: int) -> Case:
        """Inputs of one request, and the right outputs."""
        return self.cases([(seed, rows)])[0]

    def cases(self, wanted: Sequence[tuple[int, int]]) -> list[Case]:
        """The requests of (seed, rows), with the right outputs. Remembered: several checks send the same requests."""
        new = [key for key in dict.fromkeys(wanted) if key not in self._cases]
        inputs = [self.zoo.inputs(np.random.default_rng(seed), rows) for seed, rows in new]
        right = self._right_together(inputs) if self.zoo.slow_source and len(new) > 1 else map(self.right, inputs)
        self._cases.update(zip(new, zip(inputs, right, strict=True), strict=True))
        return [self._cases[key] for key in wanted]

    def _right_together(self, requests: Sequence[Tensors]) -> list[dict[str, NDArray[Any]]]:
        """The source's answers to requests of independent rows, computed in one call."""
        joined = {name: np.concatenate([one[name] for one in requests]) for name in requests[0]}
        ends = np.cumsum([len(next(iter(one.values()))) for one in requests])[:-1]
        parts = {name: np.split(array, ends) for name, array in self.right(joined).items()}
        return [{name: arrays[index] for name, arrays in parts.items()} for index in range(len(requests))]

    def right(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """The source's answer to one request alone."""
        return {name: np.asarray(value) for name, value in self.source(inputs).items()}


def build(zoo: Sequence[ZooModel], directory: Path) -> list[Resident]:
    """Write every model into a folder of its own, named after the model."""
    residents = []
    for one in zoo:
        folder = directory / one.name
        folder.mkdir(parents=True)
        residents.append(Resident(one, one.build(folder), folder))
    return residents


@contextmanager
def served(
    residents: Sequence[Resident], directory: Path, *flags: str, environ: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """One server that has been asked to load every model."""
    with server_process(directory, None, *FLAGS, *flags, environ=environ) as server:
        server.listen()
        for resident in residents:
            resident.loaded = load(server, resident)
        yield server


def load(server: ServerProcess, resident: Resident) -> Response:
    """The server's answer to the request to load a model."""
    body = json.dumps({"model_name": resident.name, "url": str(resident.folder)}).encode()
    found = server.request("POST", "/models", body, {"Content-Type": "application/json"})
    return Response(found.status, found.headers, found.body)


class Connections:
    """Connections that are kept open: ``send`` writes one request into each, then reads all responses."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._stack = ExitStack()
        self._sockets = [self._open() for _ in range(count)]

    def _open(self) -> socket.socket:
        made = self._stack.enter_context(socket.create_connection(("127.0.0.1", self._port), PATIENCE_S))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Connections:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, requests: Sequence[Sent]) -> list[Response | None]:
        """Responses in the order of ``requests``, all on their way at once; None for a request without an end."""
        assert len(requests) <= len(self._sockets)
        used = self._sockets[: len(requests)]
        for client, sent in zip(used, requests, strict=True):
            client.sendall(_wire(sent))
        return [self._read(index, client) for index, client in enumerate(used)]

    def leave(self, sent: Sent) -> None:
        """Send a request on a connection of its own, and reset that at once."""
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE_S) as client:
            client.sendall(_wire(sent))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _read(self, index: int, client: socket.socket) -> Response | None:
        found = http.client.HTTPResponse(client)
        try:
            found.begin()
            body = found.read()
        except (OSError, http.client.HTTPException):
            self._sockets[index] = self._open()
            return None
        finally:
            found.close()
        return Response(found.status, {name.lower(): value for name, value in found.getheaders()}, body)


def _wire(sent: Sent) -> bytes:
    lines = [f"POST {sent.path} HTTP/1.1", "Host: zoo", f"Content-Length: {len(sent.body)}"]
    lines += [f"{name}: {value}" for name, value in sent.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + sent.body
