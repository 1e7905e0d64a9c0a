"""The end of a served model: what was found for it is answered before it stops."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from server.models.served import close


class Scheduler:
    """Notes how many requests were still being read when it was stopped."""

    def __init__(self) -> None:
        self.model: Any = None
        self.waiting_rows = 0
        self.begun_at_stop: list[int] = []

    def stop(self, _patience_s: float) -> bool:
        self.begun_at_stop.append(self.model.begun)
        return True

    def abandon(self) -> None: ...


@pytest.mark.parametrize(("drain_s", "begun"), [(30.0, 0), (0.0, 1)])
def test_a_drain_waits_for_bodies_that_are_being_read(drain_s: float, begun: int) -> None:
    scheduler = Scheduler()
    session = SimpleNamespace(close=lambda: None)
    artifact = SimpleNamespace(temporary=None)
    scheduler.model = model = SimpleNamespace(
        name="m", begun=1, scheduler=scheduler, session=session, artifact=artifact, cache=None
    )

    async def run() -> None:
        def read() -> None:
            model.begun = begun

        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, read)
        made: Any = model
        await close(made, drain_s)

    asyncio.run(run())
    assert scheduler.begun_at_stop == [begun]
