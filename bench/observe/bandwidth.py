"""The ways of bytes: how fast they travel to the server, and from memory to its cores."""

from __future__ import annotations

from dataclasses import dataclass

from .link import Link, find
from .memory_bandwidth import MemoryBandwidth, measure
from .proc import is_here


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """``None`` where nobody knows."""

    link: Link | None = None
    memory: MemoryBandwidth | None = None


def look(host: str, link_mbit: float | None, with_memory: bool) -> Bandwidth:
    """What the system says of the link; memory is measured, where the server is on this machine and if asked to.

    Before the load, which needs the same memory.
    """
    return Bandwidth(find(host, link_mbit), measure() if with_memory and is_here(host) else None)


UNKNOWN = Bandwidth()
