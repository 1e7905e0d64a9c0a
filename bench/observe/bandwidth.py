"""Bandwidth: the nominal rate of the link to the server, and the measured rate of this machine's memory."""

from __future__ import annotations

from dataclasses import dataclass

from .link import Link, find
from .memory_bandwidth import MemoryBandwidth, measure
from .proc import is_here


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Both rates; None if unknown."""

    link: Link | None = None
    memory: MemoryBandwidth | None = None


def look(host: str, link_mbit: float | None, with_memory: bool) -> Bandwidth:
    """Read the link's rate from the system, and measure memory if ``with_memory`` and the server is on this machine.

    It must run before the load, which uses the same memory. ``link_mbit``: a nominal rate in Mbit/s to use instead.
    """
    return Bandwidth(find(host, link_mbit), measure() if with_memory and is_here(host) else None)


UNKNOWN = Bandwidth()
