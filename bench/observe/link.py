"""The link: the nominal rate of the network interface through which a server is reached."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

import psutil

BITS_PER_MBIT = 1e6


@dataclass(frozen=True, slots=True)
class Link:
    """A nominal rate in each direction. ``source``: the option or the interface that it comes from."""

    mbit_per_s: float
    source: str

    @property
    def bytes_per_s(self) -> float:
        return self.mbit_per_s * BITS_PER_MBIT / 8


def find(host: str, asked_mbit: float | None) -> Link | None:
    """``asked_mbit`` if it is given, else the rate of the interface on the way to ``host``.

    None for the loopback, which has no rate, and for interfaces without a known rate (most virtual ones).
    """
    if asked_mbit is not None:
        return Link(asked_mbit, "--link-mbit")
    name = _interface(_own_address(host))
    stats = psutil.net_if_stats().get(name) if name is not None else None
    # psutil writes 0 where the kernel knows no rate.
    return Link(stats.speed, f"what the interface {name} says") if stats is not None and stats.speed > 0 else None


def _own_address(host: str) -> str | None:
    """The address of this machine that packets to the host would have; no packet is sent. None for the loopback."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            own = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if ipaddress.ip_address(own.partition("%")[0]).is_loopback else own


def _interface(address: str | None) -> str | None:
    if address is None:
        return None
    addresses = psutil.net_if_addrs().items()
    return next((name for name, found in addresses if any(one.address == address for one in found)), None)
