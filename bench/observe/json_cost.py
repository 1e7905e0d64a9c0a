"""The cost of JSON: the time that Python's json takes to parse a body on this machine."""

from __future__ import annotations

import json
import math
import time

REPEATS = 3
SECONDS = 0.3
"""No further repeat starts after this time."""


def read_ms(body: bytes) -> float | None:
    """The shortest time to parse the body, in ms, of up to ``REPEATS`` times; None if it is not JSON."""
    best_s = math.inf
    deadline_s = time.perf_counter() + SECONDS
    for _ in range(REPEATS):
        start_s = time.perf_counter()
        try:
            json.loads(body)
        except ValueError:
            return None
        end_s = time.perf_counter()
        best_s = min(best_s, end_s - start_s)
        if end_s > deadline_s:
            break
    return best_s * 1e3
