"""Changes: what an operator may change, as data, so that several processes of one server can make the same change.

Every change has a name and values that can be written as JSON. One process makes it itself. Of several processes one
makes it, and the others follow to its state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..artifact import Overrides
from ..errors import Forbidden, SlipwayError
from ..slowdown import Injected, Slowdown
from .follower import Follower
from .registry import LoadOptions, Models
from .state import state_of
from .traffic import Rules

log = logging.getLogger("slipway.changes")

Values = dict[str, Any]
Everywhere = Callable[[str, Values], Awaitable[Any]]
"""Makes a change in all processes: its name and its values. Returns its result, or raises its error."""


class Changes:
    """The changes of one process. ``everywhere``: makes one in all processes; None: there is no other process."""

    def __init__(self, models: Models, follower: Follower, everywhere: Everywhere | None = None) -> None:
        self._models = models
        self._follower = follower
        self._everywhere = everywhere
        self._judged: set[str] = set()
        self._tasks: set[asyncio.Future[None]] = set()
        releases = models.releases
        self._table: dict[str, Callable[..., Any]] = {
            "load": self._load,
            "load_newest": self._load_newest,
            "load_sent": self._load_sent,
            "unload": self._unload,
            "label": releases.label,
            "unlabel": releases.unlabel,
            "promote": releases.promote,
            "roll_back": releases.roll_back,
            "canary": self._canary,
            "shadow": releases.shadow,
            "conclude": releases.conclude,
            "slow": self._slow,
            "end_slowdown": self._end_slowdown,
        }
        if everywhere is not None:
            releases.on_verdict = self._judge

    async def make(self, kind: str, **values: Any) -> Any:
        """Make a change in all processes. Returns its result, which can be written as JSON; raises its errors."""
        if self._everywhere is not None:
            return await self._everywhere(kind, values)
        return await self.make_here(kind, values)

    async def make_here(self, kind: str, values: Values) -> Any:
        """Make a change in this process alone."""
        result = self._table[kind](**values)
        return await result if isinstance(result, Awaitable) else result

    async def apply(self, kind: str, values: Values) -> tuple[dict[str, Any], Any]:
        """Make a change here for the other processes to follow. Returns the states before and after, and the result
        or the error of ours that it raised."""
        before = state_of(self._models, self._follower)
        try:
            result = await self.make_here(kind, values)
        except SlipwayError as error:
            result = error
        return {"before": before, "after": state_of(self._models, self._follower)}, result

    def running(self) -> list[asyncio.Future[None]]:
        """The rollbacks that are being made."""
        return list(self._tasks)

    async def _load(
        self,
        path: str,
        name: str = "",
        version: str = "",
        pinned: bool = False,
        activate: bool | None = None,
        retire: bool = False,
        reload: bool = False,
        forget: bool = False,
    ) -> str:
        """Load an artifact; returns the model's name. ``forget``: keep nothing of a load that failed."""
        options = LoadOptions(pinned, activate, retire, reload, self._models.last_load + 1)
        try:
            return (await self._models.load(Path(path), options, name=name, version=version)).name
        except SlipwayError:
            if forget:
                self._models.forget(name)
            raise

    async def _load_newest(self, name: str, overrides: Values | None = None) -> None:
        await self._follower.load_newest(name, Overrides(**(overrides or {})))

    async def _load_sent(self, name: str, path: str) -> None:
        await self._follower.load_sent(name, Path(path))

    async def _unload(self, name: str, version: str | None = None, forget: bool = False) -> None:
        await self._models.unload(name, version)
        if forget:
            self._models.forget(name)

    def _canary(self, name: str, version: str, percent: float, error_rate: float, latency: float, least: int) -> None:
        self._models.releases.canary(name, version, percent, Rules(error_rate, latency, least))

    def _slow(self, stage: str, extra_us: int, seconds: float) -> None:
        self._slowdown().inject(Injected(stage, extra_us), seconds)

    def _end_slowdown(self) -> None:
        self._slowdown().end()

    def _slowdown(self) -> Slowdown:
        if self._models.slowdown is None:
            raise Forbidden("this server does not slow down its stages on request: start it with --slowdowns")
        return self._models.slowdown

    def _judge(self, name: str, verdict: str) -> None:
        """A version broke its rules in this process: roll it back in all."""
        if name in self._judged:
            return  # it is being rolled back
        self._judged.add(name)
        task = asyncio.ensure_future(self._conclude(name, verdict))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _conclude(self, name: str, verdict: str) -> None:
        try:
            await self.make("conclude", name=name, verdict=verdict)
        except SlipwayError as error:
            log.warning("rolling back failed model=%s error=%r; it is tried again", name, str(error))
        finally:
            self._judged.discard(name)
