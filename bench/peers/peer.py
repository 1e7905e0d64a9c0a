"""The peer: the description of one model server of the comparison. Each has its own module, and a row in ``table``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
MAX_BATCH_SIZE = 32
"""For each server that has such a setting: the number of connections of the largest closed loop."""
SERVICES = Path(__file__).parent / "services"
LOCKS = Path(__file__).parent / "locks"

Row = list[float]


@dataclass(frozen=True, slots=True)
class Deployment:
    """The inputs for the start of a server.

    ``folder``: its working directory, empty at first. ``python``: the interpreter of its environment. ``ports``: free
    ports of 127.0.0.1; the first is for HTTP. ``model``: the ONNX file. ``workers``: the number of cores that the
    server is pinned to.
    """

    folder: Path
    python: Path
    ports: tuple[int, ...]
    model: Path
    workers: int

    @property
    def port(self) -> int:
        return self.ports[0]

    def script(self, name: str) -> str:
        """The path of a command in the environment."""
        return str(self.python.parent / name)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server: how to install, configure, start and call it.

    ``package``: the distribution whose version is shown; None for this checkout. ``lock``: pinned requirements of its
    environment; None for the interpreter that runs bench. ``needs``: programs that pip cannot install. ``files``: texts
    of the files in its folder, by name. ``prepare``: commands to run there before the start. ``ready``: a path that
    returns 200 when the server is ready. ``body``: makes the JSON of a request with one row. ``answer``: extracts the
    row from the JSON of a response; raises ValueError, LookupError or TypeError for other JSON. ``settings``: its
    configuration, for readers of a result. ``advice``: the pages of its documentation that the configuration follows.
    """

    name: str
    title: str
    package: str | None
    lock: Path | None
    files: Callable[[Deployment], Mapping[str, str]]
    command: Callable[[Deployment], Sequence[str]]
    ready: str
    route: str
    body: Callable[[Row], Any]
    answer: Callable[[Any], Row]
    settings: tuple[str, ...]
    advice: tuple[str, ...]
    prepare: Callable[[Deployment], Sequence[Sequence[str]]] = lambda _place: ()
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    ready_within_s: float = 60.0

    def url(self, deployment: Deployment) -> str:
        """The URL of inference requests."""
        return f"http://{HOST}:{deployment.port}{self.route}"


def service(name: str, deployment: Deployment, **more: Any) -> dict[str, str]:
    """The files of a peer with a program in ``services``: that program, and ``service.json`` with its parameters.

    ``more``: additional parameters.
    """
    parameters = {
        "host": HOST,
        "port": deployment.port,
        "model": str(deployment.model),
        "max_batch_size": MAX_BATCH_SIZE,
        "workers": deployment.workers,
    }
    source = f"{name}_service.py"
    return {source: (SERVICES / source).read_text(encoding="utf-8"), "service.json": json.dumps({**parameters, **more})}


def infer_body(row: Row) -> dict[str, Any]:
    """A request of the Open Inference Protocol with one row."""
    return {"inputs": [{"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}]}


def infer_answer(answer: Any) -> Row:
    """The row in a response of the Open Inference Protocol."""
    return [float(one) for one in answer["outputs"][0]["data"]]
