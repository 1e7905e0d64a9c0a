"""The link: the nominal rate of the network interface through which a server is reached."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

BITS_PER_MBIT = 1e6
SYSFS = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Link:
    """The nominal rate of a link in each direction. ``source``: the option or the interface that it comes from."""

    mbit_per_s: float
    source: str

    @property
    def bytes_per_s(self) -> float:
        return self.mbit_per_s * BITS_PER_MBIT / 8


def find(host: str, nominal_mbit: float | None, sysfs: Path = SYSFS) -> Link | None:
    """The link to ``host``: ``nominal_mbit`` in Mbit/s if given, else the rate of the interface that routes to it.

    None for the loopback, and for interfaces without a rate or without hardware.
    """
    if nominal_mbit is not None:
        return Link(nominal_mbit, "--link-mbit")
    name = _interface(_own_address(host))
    stats = psutil.net_if_stats().get(name) if name is not None else None
    return of_interface(name, stats.speed, sysfs) if name is not None and stats is not None else None


def of_interface(name: str, mbit_per_s: float, sysfs: Path = SYSFS) -> Link | None:
    """The link of an interface that reports ``mbit_per_s``, which is 0 or less if the kernel knows no rate.

    None without a rate, and for a virtual interface (veth, bridge, tunnel), whose rate is a constant in the kernel and
    no limit. A bond or a VLAN has a link if all its lower interfaces have hardware. Without sysfs (not Linux), every
    reported rate is accepted.
    """
    if mbit_per_s <= 0 or (sysfs.is_dir() and not _has_hardware(sysfs / name)):
        return None
    return Link(mbit_per_s, f"what the interface {name} says")


def _has_hardware(interface: Path) -> bool:
    if (interface / "device").exists():
        return True
    lower_interfaces = [lower.name.removeprefix("lower_") for lower in interface.glob("lower_*")]
    return bool(lower_interfaces) and all(_has_hardware(interface.with_name(name)) for name in lower_interfaces)


def _own_address(host: str) -> str | None:
    """The source address of packets to the host; None for the loopback. No packet is sent."""
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
    return next((name for name, entries in addresses if any(entry.address == address for entry in entries)), None)
