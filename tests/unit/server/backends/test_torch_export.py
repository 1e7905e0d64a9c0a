"""Packages of AOTInductor, over a fake GPU and the calls of torch that they take."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from server.backends import BackendOptions
from server.backends.device_session import DeviceSession
from server.backends.torch_export import PackageProgram, load
from server.errors import BrokenArtifact, UnprocessableInput
from server.target import ClosedShapes, DeviceTarget
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.fake_gpu import FakeDevice

FP32 = BY_NAME["FP32"]
SPEC = ModelSpec((TensorSpec("x", FP32, (-1, 3)),), (TensorSpec("y", FP32, (-1, 3)),))


class Tensor:
    """A tensor on the fake device; what a run returns is computed when it is copied, as enqueued work is."""

    def __init__(self, device: FakeDevice, values: Callable[[], Array], shape: tuple[int, ...]) -> None:
        self.device, self.values, self.shape = device, values, shape

    def copy_(self, other: Tensor, non_blocking: bool) -> None:
        assert non_blocking

        def kernel() -> None:
            self.values()[...] = other.values()

        self.device.launch(kernel)


class FakeTorch:
    """The calls of torch. ``inside``: the contexts that are entered; a run has to be in all of them."""

    __version__ = "2.13.0"

    def __init__(self, device: FakeDevice) -> None:
        self.device_memory = device
        self.inside: list[str] = []
        self.cuda = SimpleNamespace(
            MemPool=lambda: "pool",
            ExternalStream=lambda pointer, place: (pointer, place),
            stream=lambda _stream: self._entered("stream"),
            use_mem_pool=lambda _pool, _place: self._entered("pool"),
        )
        self._C = SimpleNamespace(_aoti=SimpleNamespace(AOTIModelPackageLoader=self._loader))

    def device(self, kind: str, ordinal: int) -> str:
        return f"{kind}:{ordinal}"

    def inference_mode(self) -> contextlib.AbstractContextManager[None]:
        return self._entered("inference")

    def as_tensor(self, memory: Any, device: str) -> Tensor:
        found = memory.__cuda_array_interface__
        shape, dtype = found["shape"], np.dtype(found["typestr"])
        size = math.prod(shape) * dtype.itemsize
        return Tensor(
            self.device_memory,
            lambda: self.device_memory.view(found["data"][0], size).view(dtype).reshape(shape),
            shape,
        )

    @contextlib.contextmanager
    def _entered(self, name: str) -> Iterator[None]:
        self.inside.append(name)
        yield
        self.inside.remove(name)

    def _loader(self, path: str, model: str, single_threaded: bool, runners: int, ordinal: int) -> Any:
        if "broken" in path:
            raise RuntimeError("Error in loading the package: no kernels\nat line 1")
        assert (model, single_threaded, runners, ordinal) == ("model", True, 1, 0)
        return SimpleNamespace(run=self._run)

    def _run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        assert {"stream", "pool", "inference"} <= set(self.inside)
        (x,) = inputs
        return [Tensor(self.device_memory, lambda: 2 * x.values(), x.shape)]


def test_a_package_answers_by_replays_in_closed_shapes() -> None:
    device = FakeDevice()
    program = PackageProgram(FakeTorch(device), Path("model.pt2"), SPEC, device)
    opened = DeviceSession([program], ClosedShapes((1, 4)), None)
    launches = device.launches
    for rows in (1, 2, 3, 4):
        x = np.random.default_rng(rows).random((rows, 3), np.float32)
        (answer,) = opened.run([x])
        np.testing.assert_array_equal(answer, 2 * x)
    assert device.launches == launches
    assert not opened.graphless
    opened.keep_rows()
    with pytest.raises(UnprocessableInput, match="not compiled for 3"):
        opened.run([np.ones((3, 3), np.float32)])
    opened.close()
    assert device.empty


def test_a_package_that_does_not_load_says_why_and_frees_its_stream() -> None:
    device = FakeDevice()
    with pytest.raises(BrokenArtifact, match=r"cannot load broken\.pt2: Error in loading the package: no kernels; a"):
        PackageProgram(FakeTorch(device), Path("broken.pt2"), SPEC, device)
    assert device.empty


def test_a_package_without_its_manifest_is_refused() -> None:
    with pytest.raises(BrokenArtifact, match="needs the manifest"):
        load(Path("model.pt2"), BackendOptions(target=DeviceTarget("cuda"), shapes=ClosedShapes((1,))))
