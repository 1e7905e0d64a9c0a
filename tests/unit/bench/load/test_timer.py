"""Both timers: never early, in order, replaceable."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from bench.load import timer

KINDS = [timer.LoopTimer, *([timer.KernelTimer] if sys.platform == "linux" else [])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_timer_fires_once_at_or_after_its_instant(kind: type[timer.KernelTimer | timer.LoopTimer]) -> None:
    async def main() -> list[tuple[int, int]]:
        over = asyncio.Event()
        fired: list[tuple[int, int]] = []
        instants = [time.perf_counter_ns() + offset for offset in (1_000_000, 1_200_000, 5_000_000, 0)]

        def callback() -> None:
            fired.append((instants[len(fired)], time.perf_counter_ns()))
            if len(fired) == len(instants):
                over.set()
            else:
                one.set(instants[len(fired)])

        one = kind(asyncio.get_running_loop(), callback)
        one.set(instants[0] + 10_000_000_000)
        one.set(instants[0])  # replaces the other, which is ten seconds away
        await over.wait()
        one.close()
        return fired

    fired = asyncio.run(main())
    assert len(fired) == 4
    assert all(at >= instant for instant, at in fired)


def test_a_machine_has_a_timer() -> None:
    async def main() -> bool:
        one = timer.make(asyncio.get_running_loop(), lambda: None)
        one.close()
        return isinstance(one, timer.KernelTimer)

    assert asyncio.run(main()) == (sys.platform == "linux")
