"""The GPUs of a host: none here, and said so."""

from __future__ import annotations

import pytest

from server.system import gpu
from server.system.gpu import Gpus


def test_a_host_without_the_library_says_so() -> None:
    host = gpu.read("libno-such-library.so.1")
    assert host.devices == ()
    assert "the NVIDIA driver is not visible" in host.absent


def test_what_is_missing_is_said_with_the_remedy() -> None:
    host = gpu.read("libno-such-library.so.1")
    assert gpu.missing("cuda", host).startswith("the device cuda is wanted, and the NVIDIA driver is not visible")
    assert "no GPU is visible; docker run --gpus all" in gpu.missing("cuda", Gpus(driver="580.1"))


@pytest.mark.parametrize(("driver", "major"), [("580.95.05", 580), ("535.183", 535), ("", 0)])
def test_the_major_version_of_the_driver(driver: str, major: int) -> None:
    assert Gpus(driver=driver).driver_major == major
