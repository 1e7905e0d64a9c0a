"""The link: only an interface with hardware has a rate that limits anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.observe import link
from bench.observe.link import Link, of_interface


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A host with two cards, a bond and a VLAN on them, a container's pair, and bridges."""
    below = {
        "lo": (),
        "veth1": (),
        "tun0": (),
        "bond0": ("eth0", "eth1"),
        "bond0.7": ("bond0",),
        "docker0": ("veth1",),
        "br0": ("eth0", "veth1"),
    }
    for card in ("eth0", "eth1"):
        (tmp_path / card / "device").mkdir(parents=True)
    for name, lower in below.items():
        (tmp_path / name).mkdir()
        for one in lower:
            (tmp_path / name / f"lower_{one}").symlink_to(tmp_path / one)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "mbit_per_s", "known"),
    [
        ("eth0", 1_000, True),
        ("bond0", 2_000, True),
        ("bond0.7", 2_000, True),
        ("eth0", 0, False),  # virtio has hardware and no rate
        ("eth0", -1, False),
        ("veth1", 10_000, False),
        ("docker0", 10_000, False),
        ("br0", 10_000, False),
        ("tun0", 10, False),
        ("lo", 10_000, False),
        ("gone", 10_000, False),
    ],
)
def test_a_rate_needs_hardware_below_it(sysfs: Path, name: str, mbit_per_s: float, known: bool) -> None:
    found = of_interface(name, mbit_per_s, sysfs)
    assert (found is not None) is known
    if found is not None:
        assert found.bytes_per_s == mbit_per_s * 125_000
        assert name in found.source


def test_a_system_without_sysfs_is_believed(tmp_path: Path) -> None:
    assert of_interface("en0", 1_000, tmp_path / "none") is not None


def test_a_server_behind_a_virtual_interface_has_no_link(monkeypatch: pytest.MonkeyPatch, sysfs: Path) -> None:
    """What the user says about the link is believed, whatever the interface."""

    class Stats:
        speed = 10_000

    class Address:
        address = "10.0.0.2"

    for name, rate in (("veth1", None), ("eth0", 10_000)):
        monkeypatch.setattr(link, "_own_address", lambda _host: "10.0.0.2")
        monkeypatch.setattr("psutil.net_if_addrs", lambda name=name: {name: [Address]})
        monkeypatch.setattr("psutil.net_if_stats", lambda name=name: {name: Stats})
        found = link.find("10.0.0.1", None, sysfs)
        assert (found.mbit_per_s if found is not None else None) == rate
        assert link.find("10.0.0.1", 100.0, sysfs) == Link(100, "--link-mbit")
    monkeypatch.setattr("psutil.net_if_stats", dict)
    assert link.find("10.0.0.1", None, sysfs) is None
