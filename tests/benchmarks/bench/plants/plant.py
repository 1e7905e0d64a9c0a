"""The plant: one fault of one server, and the names of its cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

FASTAPI, SLIPWAY, LITSERVE, MLSERVER = "FastAPI", "Slipway", "LitServe", "MLServer"
SERVERS = (FASTAPI, SLIPWAY, LITSERVE, MLSERVER)
Around = Callable[[str, Sequence[int]], AbstractContextManager[str | None]]
"""What happens outside of the server, from its URL and its processes. It yields another URL, or None."""


@dataclass(frozen=True, slots=True)
class Plant:
    """One fault, or several at once.

    ``right``: the names of the cause that are right in the first place. ``faults``: of ``faulty_model`` and of the
    server, as text. ``rate``: requests/s, or ``users`` callers of a closed loop. ``numbers``: in each of the bodies.
    ``around``: what happens outside of the server. ``other_rate``: of a second client. ``network``: a model of Slipway,
    as inputs, hidden size and layers, instead of the faulty model. ``padded``: one that pads its inputs, as hidden size
    and largest length. ``crowded``: the load generator shares a core with other programs. ``serve``: flags of Slipway.
    ``workers``: processes of LitServe. ``link``: what ``tc`` does to the loopback of a network namespace that both
    ends share. ``options``: of ``bench run``. ``rows``: in the body of a network.
    """

    server: str
    name: str
    right: tuple[str, ...]
    faults: str = ""
    rate: float = 40.0
    users: int | None = None
    numbers: tuple[int, ...] = (64,)
    around: Around | None = None
    other_rate: float = 0.0
    network: tuple[int, int, int] | None = None
    padded: tuple[int, int] | None = None
    crowded: bool = False
    serve: tuple[str, ...] = ()
    workers: int = 0
    link: str = ""
    warmup_s: float = 1.0
    options: tuple[str, ...] = ()
    rows: int = 1

    @property
    def title(self) -> str:
        return f"{self.server}: {self.name}"
