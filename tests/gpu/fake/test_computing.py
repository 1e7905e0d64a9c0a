"""Rows that pass the server's buffers on the fake device come back as the CPU computes them, in every closed shape."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from server.backends import BackendOptions
from server.backends.cuda import CudaDevice
from server.backends.device_session import DeviceSession
from server.target import ClosedShapes, DeviceTarget

from . import models
from .computing import ComputedProgram


@pytest.mark.timeout(120)  # the first test of a model exports it
def test_values_survive_padding_copies_and_cuts() -> None:
    ort.preload_dlls()
    path = models.file("digits")
    options = BackendOptions(target=DeviceTarget("cuda"))
    session = DeviceSession([ComputedProgram(path, options, CudaDevice(0))], ClosedShapes((1, 4, 8)), None)
    try:
        on_cpu = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        rows = dict(models.MODELS["digits"].rows(7))
        (wanted,) = on_cpu.run(None, rows)
        for count in (1, 3, 7):
            (got,) = session.run([array[:count] for array in rows.values()])
            np.testing.assert_allclose(got, wanted[:count], rtol=1e-5, atol=1e-6)
        assert session.counters().padded_rows == 2
        assert session.graphless == "the graph gives another answer than the launches"
    finally:
        session.close()
