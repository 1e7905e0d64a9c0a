"""Device memory of closed shapes, from what a GPU shows as used before and after."""

from __future__ import annotations

from collections.abc import Callable

from optimize.package.device_memory import measure
from server.target import BucketBytes, ClosedShapes

SHARED, WEIGHTS = 500, 100


def test_a_shape_takes_what_remains_without_weights_and_what_the_process_shares() -> None:
    used = 7
    opened: list[tuple[int, int]] = []

    def load(rows: int, length: int) -> Callable[[], None]:
        nonlocal used
        first = not opened
        opened.append((rows, length))
        taken = WEIGHTS + rows * length
        used += taken + (SHARED if first else 0)

        def close() -> None:
            nonlocal used
            used -= taken

        return close

    found = measure(load, ClosedShapes((1, 8), (16, 32)), WEIGHTS, lambda: used)
    assert found == (BucketBytes(1, 32, 32), BucketBytes(8, 32, 256))
    assert opened == [(1, 32), (1, 32), (8, 32)]
    assert used == 7 + SHARED
