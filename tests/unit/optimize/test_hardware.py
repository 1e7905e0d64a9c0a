"""Hardware detection: processor flags and their defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize import hardware
from server.system.gpu import Gpu as Device
from server.system.gpu import Gpus

X86 = "processor\t: 0\nmodel name\t: Abacus 3\nflags\t\t: fpu avx2 {extra}\n\nprocessor\t: 1\nmodel name\t: Abacus 4\n"


def cpuinfo(tmp_path: Path, text: str) -> hardware.Hardware:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    return hardware.detect(path)


@pytest.mark.parametrize(
    ("text", "flags", "int8"),
    [
        (X86.format(extra="avx512_vnni"), ("avx2", "avx512_vnni"), True),
        (X86.format(extra="avx_vnni"), ("avx2", "avx_vnni"), True),
        (X86.format(extra="sse2"), ("avx2",), False),
        ("Features\t: fp asimd asimddp\n", ("asimddp",), True),
        ("", (), False),
    ],
)
def test_int8_dot_products_are_detected(tmp_path: Path, text: str, flags: tuple[str, ...], int8: bool) -> None:
    found = cpuinfo(tmp_path, text)
    assert found.flags == flags
    assert found.has_int8_dot is int8


def test_the_first_processor_names_the_machine(tmp_path: Path) -> None:
    found = cpuinfo(tmp_path, X86.format(extra=""))
    assert found.cpu == "Abacus 3"
    assert found.cores >= 1


def test_without_cpuinfo_no_int8_dot_is_assumed(tmp_path: Path) -> None:
    assert not hardware.detect(tmp_path / "absent").has_int8_dot


DEVICES = Gpus(
    tuple(Device(at, f"GPU number {at}", f"GPU-{at}a", 80 + at, 1 << 34, 0, False, True, 0, 0.0) for at in range(3)),
    "580.95.05",
)


@pytest.mark.parametrize(
    ("visible", "sms"),
    [
        (None, [80, 81, 82]),
        ("2,0", [82, 80]),
        ("GPU-1", [81]),
        ("", []),
        ("-1", []),
        ("1,7,0", [81]),
        ("MIG-5", []),
    ],
)
def test_gpus_are_those_that_cuda_shows_in_its_order(visible: str | None, sms: list[int]) -> None:
    assert [one.sm for one in hardware.gpus(DEVICES, visible)] == sms


def test_a_gpu_of_the_search_is_in_the_record() -> None:
    found = hardware.detect(gpu=hardware.gpus(DEVICES, None)[0]).to_json()
    assert found["gpu"]["driver"] == "580.95.05"
    assert "gpu" not in hardware.detect().to_json()
