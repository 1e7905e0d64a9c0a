"""The peer: one server of the comparison, as data. Each has a file of its own, and a row in ``table``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
MAX_BATCH_SIZE = 32
"""Of every server that has such a limit: as many as there are connections in the widest load."""
SERVICES = Path(__file__).parent / "services"
LOCKS = Path(__file__).parent / "locks"

Row = list[float]


@dataclass(frozen=True, slots=True)
class Place:
    """Where and with what a server is started.

    ``folder``: its own, empty, and its working directory. ``python``: the interpreter of its environment. ``ports``:
    free ones on 127.0.0.1, of which the first is for HTTP. ``workers``: the cores that it is pinned to.
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
        """The path of a command that the environment installed."""
        return str(self.python.parent / name)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server: how it is installed, set up, started, asked and understood.

    ``package``: the distribution whose version is shown; None for this checkout. ``lock``: pinned requirements, the
    whole environment; None for the interpreter that runs bench. ``needs``: programs that pip cannot install.
    ``files``: what lies in its folder, by name. ``prepare``: commands run there before the start. ``ready``: a path
    that answers 200 when it can be asked. ``body`` and ``answer``: one row as a request, and as a parsed answer; the
    latter may raise what reading a JSON of another form raises. ``settings``: its configuration in words, for
    the reader of a result. ``advice``: the pages of its documentation that it follows.
    """

    name: str
    title: str
    package: str | None
    lock: Path | None
    files: Callable[[Place], Mapping[str, str]]
    command: Callable[[Place], Sequence[str]]
    ready: str
    route: str
    body: Callable[[Row], Any]
    answer: Callable[[Any], Row]
    settings: tuple[str, ...]
    advice: tuple[str, ...]
    prepare: Callable[[Place], Sequence[Sequence[str]]] = lambda _place: ()
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    ready_within_s: float = 60.0

    def url(self, place: Place) -> str:
        """Where requests go."""
        return f"http://{HOST}:{place.port}{self.route}"


def service(name: str, place: Place, **more: Any) -> dict[str, str]:
    """The service of that name from ``services``, and ``service.json`` with where it runs and ``more``."""
    known = {
        "host": HOST,
        "port": place.port,
        "model": str(place.model),
        "max_batch_size": MAX_BATCH_SIZE,
        "workers": place.workers,
    }
    source = f"{name}_service.py"
    return {source: (SERVICES / source).read_text(encoding="utf-8"), "service.json": json.dumps({**known, **more})}


def infer_body(row: Row) -> dict[str, Any]:
    """A row as a request of the Open Inference Protocol."""
    return {"inputs": [{"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}]}


def infer_answer(answer: Any) -> Row:
    """The row in an answer of the Open Inference Protocol."""
    return [float(one) for one in answer["outputs"][0]["data"]]
