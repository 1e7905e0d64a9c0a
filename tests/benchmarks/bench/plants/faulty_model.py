"""The faulty model: a computation with planted faults, for every server under test.

It imports nothing of this project, because it also runs in the environments of other servers and in a user's script.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

BASE_S = 0.003
"""What the model computes for every request, without a fault."""
BURN_S = 0.02
PAUSE_S = 2.0


def parse(text: str) -> dict[str, float]:
    """Faults from a text such as ``lock=0.02 reply=60000``: values by name."""
    return {name: float(value or 1) for name, _, value in (word.partition("=") for word in text.split())}


class FaultyModel:
    """``faults``: values by name, in seconds, bytes or a count.

    ``base``: CPU of every request. ``spin``, ``sort``: more CPU, with and without the interpreter's lock. ``sleep``: a
    wait beside other requests. ``lock``: a wait for one request at a time. ``length``: CPU for each number of the body.
    ``weights``: bytes that are read for each request. ``threads``: threads that compute at once for each request.
    ``cold``: the first request waits. ``reply``: numbers in the response. ``garbage``: objects that a full garbage
    collection visits, every two seconds.
    """

    def __init__(self, faults: dict[str, float]) -> None:
        self.faults = faults
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(int(faults.get("threads", 1)))
        self._weights = np.ones(int(faults.get("weights", 0)) // 8)
        self._cold = "cold" in faults
        if "garbage" in faults:
            self._heap = [[at] for at in range(int(faults["garbage"]))]
            threading.Thread(target=_collect, daemon=True).start()

    def predict(self, values: Sequence[float]) -> list[float]:
        """The sum of the numbers, and as many more as the fault ``reply`` says."""
        faults, get = self.faults, self.faults.get
        if self._cold:
            self._cold = False
            time.sleep(faults["cold"])
        if "lock" in faults:
            with self._lock:
                time.sleep(faults["lock"])
        if "sleep" in faults:
            time.sleep(faults["sleep"])
        spin(get("spin", 0.0) + len(values) * get("length", 0.0) + get("base", BASE_S))
        if "sort" in faults:
            burn(faults["sort"])
        if len(self._weights):
            self._weights.sum()
        if "threads" in faults:
            list(self._pool.map(burn, [BURN_S] * int(faults["threads"])))
        return [float(np.sum(values)), *(0.123456789 + at for at in range(int(get("reply", 0))))]


def spin(seconds: float) -> None:
    """Use a core for this much of its CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def burn(seconds: float) -> None:
    """The same without the interpreter's lock, so that threads compute at once."""
    matrix = np.random.default_rng(0).random((200, 200))
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        np.sort(matrix, axis=None)


def _collect() -> None:
    while True:
        time.sleep(PAUSE_S)
        gc.collect()
