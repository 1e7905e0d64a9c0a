"""A simulated server of several processes: the real supervisor, channels, models and changes, on one event loop whose
time moves only when nothing else can happen. Processes die and stop at a message of a test's choice.
"""

from __future__ import annotations

import asyncio
import selectors
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from server import slowdown as slowdowns
from server.launch.answers import answer
from server.lifecycle import Lifecycle, Phase
from server.models import Models
from server.models.changes import Changes
from server.models.description import describe
from server.models.follower import Follower
from server.models.load_threads import LoadThreads
from server.models.state import state_of
from server.replicas import member as members
from server.replicas import replica as replicas
from server.replicas import supervisor as supervisors
from server.replicas.channel import Channel
from server.replicas.member import Member
from server.settings.options import Settings
from server.slowdown import Slowdown
from tests.fake_models import FakeLoader, fake_models

T = TypeVar("T")

LOAD_S = 1.0
"""Simulated seconds of each piece of a load."""
PATIENCE_S = 1_000.0
"""Simulated seconds within which everything has come to its end, also what a stopped process holds up."""
OWN_FIGURES = ("memory_bytes", "load_seconds")


class Instant(selectors.DefaultSelector):
    """Time passes only while nothing is ready, and then at once."""

    now_s = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing can happen any more"
            self.now_s += timeout
        return ready


class Loop(asyncio.SelectorEventLoop):
    """The same calls always happen in the same order. What would run in a thread runs on the loop."""

    def __init__(self) -> None:
        self._instant = Instant()
        super().__init__(self._instant)

    def time(self) -> float:
        return self._instant.now_s

    def run_in_executor(self, _executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is handed on
            future.set_exception(error)
        return future

    def add_signal_handler(self, *_: Any) -> None:  # type: ignore[override]
        """Signals of the machine are not the simulated server's."""


class Wire(Channel):
    """The channel of a process, which may be stopped: then messages wait in both directions."""

    process: Process

    def __init__(self, handle: Any) -> None:
        super().__init__(handle)
        self.stopped = False
        self._held: list[tuple[Callable[[Any], None], dict[str, Any]]] = []

    def _send(self, document: dict[str, Any]) -> None:
        self._pass(super()._send, document)

    def _received(self, message: dict[str, Any]) -> None:
        self._pass(super()._received, message)

    def _pass(self, on: Callable[[Any], None], message: dict[str, Any]) -> None:
        strike = self.process.server.next_strike(self.process, message)
        if strike == "dies before":
            self.process.end(-signal.SIGKILL)
        elif strike is not None and strike != "dies after":
            self.stopped = True
            if strike == "pauses":
                asyncio.get_running_loop().call_later(PAUSE_S, self.go_on)
        if self.stopped:
            self._held.append((on, message))
            return
        on(message)
        if strike == "dies after":
            asyncio.get_running_loop().call_soon(self.process.end, -signal.SIGKILL)

    def go_on(self) -> None:
        self.stopped = False
        held, self._held = self._held, []
        for on, message in held:
            if self.process.code is None:
                on(message)


STRIKES = ("dies before", "dies after", "stops", "pauses")
"""What happens to a process at a message that it sends or gets. One that stops does so for good."""
PAUSE_S = 20.0


class Process:
    """One process: the parts of ``launch.slipway`` that are no socket."""

    def __init__(self, server: Server, end: socket.socket) -> None:
        self.server = server
        self.code: int | None = None
        self.reported = False
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.lifecycle = Lifecycle()
        self.loader = FakeLoader()
        self.models: Models = fake_models(self.loader, server.settings)[0]
        self.follower = Follower(self.models, server.settings)
        self.member = Member()
        self.wire: Wire = self.member._channel  # type: ignore[assignment]
        self.wire.process = self
        self.changes = Changes(self.models, self.follower, self.member.change)
        self._tasks = [asyncio.ensure_future(self._run(end)), asyncio.ensure_future(self._report_often())]

    @property
    def serves(self) -> bool:
        """Whether clients get answers of it."""
        return self.code is None and self.member.listening.is_set() and not self.wire.stopped

    def end(self, code: int) -> None:
        """End at once."""
        if self.code is None:
            self.code = code
            for task in (*self._tasks, self.member._serving):
                if task is not None:
                    task.cancel()
            self.wire.close()
            self.models.releases.close()
            self.ended.set_result(code)

    def answers(self) -> dict[str, Any]:
        """What clients and operators can ask, without the figures that are each process's own."""
        described = {}
        for versions in self.models.known():
            one = describe(self.models, versions)
            rows = [{key: row[key] for key in row if key not in OWN_FIGURES} for row in one["versions"]]
            described[versions.name] = {**one, "versions": rows, "probation": None}
        slowdown = self.models.slowdown
        state = state_of(self.models, self.follower)
        for one in state["models"].values():
            del one["probation"]  # each process decides by its own requests
        return {
            "held": self.lifecycle.held,
            "ready": self.lifecycle.ready,
            "order": self.models.order(),
            "state": state,
            "slowdown": None if slowdown is None else slowdown.now,
            "described": described,
        }

    async def _run(self, end: socket.socket) -> None:
        order = await self.member.open(end)
        loop = asyncio.get_running_loop()
        self.models.slowdown = Slowdown(loop.call_later)
        answer(self.member, self.models, self.follower, self.changes, self.lifecycle, self.models._metrics)
        if order.first:
            self.member.listening.set()
        await self.follower.load_all()
        self.lifecycle.move(Phase.READY)
        self._report()
        if self.server.settings.poll_s:
            self._tasks.append(asyncio.ensure_future(self.follower.follow()))
        await self.member.joined.wait()
        self.member.listening.set()

    async def _report_often(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self.member.order is not None:
                self._report()

    def _report(self) -> None:
        reason = self.lifecycle.own_reason
        self.member.report(loaded=self.lifecycle.phase is Phase.READY, ready=not reason, reason=reason)


class Replica(replicas.Replica):
    """A process that is simulated."""

    process: Process

    def start(self, environ: Mapping[str, str]) -> None:
        server = Server.running
        self._end, theirs = socket.socketpair()
        self.process = Process(server, theirs)
        server.processes.append(self.process)

    @property
    def pid(self) -> int:
        return 0

    async def _exit_code(self) -> int:
        return await self.process.ended

    def signal(self, number: signal.Signals) -> None:
        if number is signal.SIGKILL:
            self.process.end(-number)
        elif not self.process.wire.stopped:
            self.process.end(0 if self.process.member.listening.is_set() else -number)


class Server:
    """The processes of one server, and those that have ended. ``strikes``: what happens to a process, by the number of
    the message at which it happens."""

    running: Server
    ending: asyncio.Future[int]
    code: int | None = None

    def __init__(self, settings: Settings, strikes: Mapping[int, str]) -> None:
        self.settings = settings
        self.processes: list[Process] = []
        self.messages = 0
        self._strikes = strikes
        self._calm = False
        self.supervisor = supervisors.Supervisor(settings)

    def next_strike(self, process: Process, message: Mapping[str, Any]) -> str | None:
        """Count a message of a process that lives. Of its reports only the first after its load counts."""
        if self._calm or process.code is not None:
            return None
        if message.get("call") == "status":
            if process.reported or not message["argument"]["loaded"]:
                return None
            process.reported = True
        self.messages += 1
        return self._strikes.get(self.messages)

    async def calm(self) -> None:
        """From now on nothing happens to processes. Returns when what has happened is over."""
        self._calm = True
        await asyncio.sleep(PAUSE_S)
        await self.settled()

    @property
    def living(self) -> list[Process]:
        return [one for one in self.processes if one.code is None]

    async def serving(self, number: int, joined: bool = True) -> Process:
        """One of the processes that clients reach. ``joined``: not the first one while it loads."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                serving = [one for one in self.living if one.serves and one.member.joined.is_set() >= joined]
                if serving:
                    return serving[number % len(serving)]
                await asyncio.sleep(1.0)

    async def settled(self) -> None:
        """Wait until all processes are there and say that they are ready."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._all_ready():  # noqa: ASYNC110 - simulated
                await asyncio.sleep(1.0)

    def _all_ready(self) -> bool:
        living = self.living
        return len(living) == self.settings.processes and all(one.serves and one.lifecycle.ready for one in living)


@contextmanager
def simulated() -> Iterator[None]:
    """Processes are simulated, and loads take simulated time."""

    async def run(self: LoadThreads, _name: str, work: Callable[[], T], *_: Any, **__: Any) -> T:
        self._require_running()
        await asyncio.sleep(LOAD_S)
        return work()

    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisors, "Replica", Replica)
        patch.setattr(supervisors, "time", clock)
        patch.setattr(slowdowns, "time", clock.monotonic)
        patch.setattr(members, "Channel", Wire)
        patch.setattr(LoadThreads, "run", run)
        yield


def play(
    root: Path, scene: Callable[[Server], Awaitable[None]], strikes: Mapping[int, str] | None = None, **settings: Any
) -> Server:
    """Play a scene, then end the server with SIGTERM, unless it has ended. Returns it."""

    async def go() -> Server:
        server = Server.running = Server(Settings(model=str(root), **{"processes": 2, **settings}), strikes or {})
        server.ending = asyncio.ensure_future(server.supervisor.run())
        await scene(server)
        if not server.ending.done():
            server.supervisor._terminate(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            server.code = await server.ending
        return server

    loop = Loop()
    with simulated():
        try:
            return loop.run_until_complete(go())
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks))
            loop.close()
