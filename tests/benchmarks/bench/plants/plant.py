"""The plant: one fault of one server, and the names of its cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from .models import Bodies, Writes

FASTAPI, SLIPWAY, LITSERVE, MLSERVER, FLASK = "FastAPI", "Slipway", "LitServe", "MLServer", "Flask"
SERVERS = (FASTAPI, SLIPWAY, LITSERVE, MLSERVER, FLASK)
ITS_OWN = ("none", "hardware", "model_size")
"""Where the time of the model itself is most of a latency that nothing adds to, these names are all fair: the model may
be called fast enough, or too slow for its machine."""
Around = Callable[[str, Sequence[int]], AbstractContextManager[str | None]]
"""What happens outside of the server, from its URL and its processes. It yields another URL, or None."""


@dataclass(frozen=True, slots=True)
class Plant:
    """One fault, or several at once.

    ``right``: the names of the cause that are right in the first place. ``faults``: of ``faulty_model`` and of the
    server, as text. ``rate``: requests/s, or ``users`` callers of a closed loop. ``numbers``: in each of the
    bodies. ``around``: what happens outside of the server. ``other_rate``: of a second client, which sends
    ``other_burst`` requests each time. ``network``: a model of Slipway, as inputs, hidden size and layers, instead
    of the faulty model. ``serve``: flags of Slipway. ``workers``: processes of LitServe. ``link``: what ``tc`` does
    to the loopback of a network namespace that server and client share. ``options``: of ``bench run``. ``rows``: in
    the body of a network. ``code``: a kind of ``users`` and its parameters, instead of the faulty model. ``model``:
    writes a model of Slipway instead of both. ``bodies``: writes the bodies instead of ``numbers``; ``other_body``
    that of the second client. ``client``: what ``bench run`` runs under. ``why``: the reason for which these names
    are right; it is written before the first run.
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
    other_burst: int = 1
    network: tuple[int, int, int] | None = None
    serve: tuple[str, ...] = ()
    workers: int = 0
    link: str = ""
    warmup_s: float = 1.0
    options: tuple[str, ...] = ()
    rows: int = 1
    code: dict[str, Any] = field(default_factory=dict)
    model: Writes | None = None
    bodies: Bodies | None = None
    other_body: Bodies | None = None
    client: tuple[str, ...] = ()
    why: str = ""

    @property
    def title(self) -> str:
        return f"{self.server}: {self.name}"
