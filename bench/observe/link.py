"""The link: the nominal rate of the interface through which a server is reached, where the system knows it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

BITS_PER_MBIT = 1e6


@dataclass(frozen=True, slots=True)
class Link:
    """A nominal rate, each way, and whose word it is."""

    mbit_per_s: float
    source: str

    @property
    def bytes_per_s(self) -> float:
        return self.mbit_per_s * BITS_PER_MBIT / 8


def find(host: str, asked_mbit: float | None, root: Path = Path("/")) -> Link | None:
    """What was asked for, else what the interface on the way to ``host`` says; None for the loopback, which has no
    rate, and for interfaces that say nothing (most virtual ones)."""
    if asked_mbit is not None:
        return Link(asked_mbit, "--link-mbit")
    name = _interface(_own_address(host))
    rate = _speed_mbit(name, root) if name is not None else None
    return Link(rate, f"what the interface {name} says") if rate is not None else None


def _own_address(host: str) -> str | None:
    """The address that packets to the host leave from; none is sent."""
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


def _speed_mbit(name: str, root: Path) -> float | None:
    """The kernel's word on an interface: -1, or no file, where it has none."""
    try:
        speed = float((root / "sys/class/net" / name / "speed").read_text())
    except (OSError, ValueError):
        return None
    return speed if speed > 0 else None
