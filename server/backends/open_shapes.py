"""The session of a model on GPUs whose shapes cannot be closed: any shape runs, without own buffers and graphs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock

from ..errors import ModelFailed
from ..tensors import Array, ModelSpec
from .cuda import CudaError
from .device_session import faults_of
from .lanes import DeviceCounters, Program


class OpenShapes:
    """The runtime allocates and copies, and plans every new shape anew. Several threads may call ``run`` at once; each
    takes a free GPU."""

    closed_rows: tuple[int, ...] = ()
    joins = False

    def __init__(self, programs: Sequence[Program]) -> None:
        """``programs``: one for each GPU."""
        self.spec: ModelSpec = programs[0].spec
        self._programs = programs
        self._free: SimpleQueue[Program] = SimpleQueue()
        self._runs = 0
        self._lock = Lock()
        for one in programs:
            self._free.put(one)

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """As ``Session.run``. Raises DeviceLost where the process can never use the device again."""
        if not self._programs:
            raise ModelFailed("this model has been unloaded")
        program = self._free.get()
        try:
            with faults_of(program.device):
                program.device.use()
                outputs = program.compute(batch)
        finally:
            self._free.put(program)
        with self._lock:
            self._runs += 1
        return outputs

    def keep_rows(self) -> None:
        """No row is ever added."""

    def counters(self) -> DeviceCounters:
        """How many runs there were: the runtime does not say what it copied."""
        return DeviceCounters(open_runs=self._runs)

    def close(self) -> None:
        """Free all device memory. A device that was lost frees nothing."""
        programs, self._programs = self._programs, ()
        for one in programs:
            with suppress(CudaError):
                one.close()
