"""The GPU image, as far as a host without a GPU can tell: what it brings and what it refuses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from container import image as images
from container.docker import DockerFailed, docker

if TYPE_CHECKING:
    from tests.container.conftest import Perceptron

BUILT = "CONTAINER_TEST_GPU_IMAGE"
"""Names an image that exists: fetching 1.6 GB is no part of a test."""

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(300),
    pytest.mark.skipif(BUILT not in os.environ, reason=f"{BUILT} names no image: make image-gpu"),
]

LINKED = """
import ctypes, pathlib, onnxruntime
onnxruntime.preload_dlls()
try:
    ctypes.CDLL(str(pathlib.Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"))
except OSError as error:
    print(error)
"""


@pytest.fixture
def gpu_image() -> str:
    return os.environ[BUILT]


def once(image: str, *command: str, model: object = None) -> str:
    mount = () if model is None else ("--volume", f"{model}:/opt/ml/model:ro")
    return docker("run", "--rm", "--pull", "never", *mount, image, *command, timeout_s=100)


def test_size_is_within_the_limit(gpu_image: str) -> None:
    arguments = [images.CUDA_12] if "cuda12" in gpu_image else []
    assert images.size_bytes(gpu_image) <= images.limit_bytes("gpu", arguments)


def test_the_runtime_was_built_with_cuda(gpu_image: str) -> None:
    found = once(gpu_image, "python", "-c", "import onnxruntime as o; print(*o.get_available_providers())")
    assert "CUDAExecutionProvider" in found.split()


def test_no_library_is_missing_but_the_driver_of_the_host(gpu_image: str) -> None:
    missing = once(gpu_image, "python", "-c", LINKED)
    assert not missing or missing.startswith("libcuda.so.1: cannot open shared object file")


def test_without_a_gpu_it_serves_on_the_processor_when_nothing_else_is_asked(
    gpu_image: str, perceptron: Perceptron
) -> None:
    assert once(gpu_image, "doctor", model=perceptron.directory).splitlines()[-1].startswith("can serve: ")


def test_without_a_gpu_it_refuses_to_serve_on_one(gpu_image: str, perceptron: Perceptron) -> None:
    with pytest.raises(DockerFailed, match="cannot serve: the device cuda is wanted, and the NVIDIA driver is not"):
        once(gpu_image, "serve", "--device", "cuda", model=perceptron.directory)
