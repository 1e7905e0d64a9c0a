"""The ways of bytes: how fast they travel to the server, and from memory to its cores."""

from __future__ import annotations

from dataclasses import dataclass

from .link import Link, find
from .memory_bandwidth import Memory, measure
from .proc import is_here


@dataclass(frozen=True, slots=True)
class Ways:
    """``None`` where nobody knows."""

    link: Link | None = None
    memory: Memory | None = None


def look(host: str, link_mbit: float | None, with_memory: bool) -> Ways:
    """What the system says of the link; memory is measured, where the server is on this machine and if asked to.

    Before the load, which needs the same memory.
    """
    return Ways(find(host, link_mbit), measure() if with_memory and is_here(host) else None)


UNKNOWN = Ways()
