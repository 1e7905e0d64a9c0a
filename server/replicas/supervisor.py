"""The supervisor: the process that starts the replicas, keeps them alike, restarts them, and ends them.

It holds no model and answers no request. Replicas call it for what concerns all of them: changes of models are made in
one replica and then in the others, one change at a time, and metrics are merged.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import signal
import sys
import time
from typing import Any

from .. import fatal
from ..errors import BadSetting, ModelFailed, NotReady, SlipwayError
from ..observe.logs import LogWriter
from ..settings import sagemaker
from ..settings.options import Settings, aliases, flag
from ..settings.reader import environment, unreadable_aliases
from ..system import gpu, orphans
from ..system.cores import available_cores
from ..system.gpu_shares import VISIBLE, divide
from ..system.listening import reserve
from .channel import ChannelClosed
from .member import Order
from .merging import Family, counted, merge, of_each, still_shown
from .replica import Replica
from .shares import share_of

log = logging.getLogger("slipway.replicas")

STOPPED, FAILED = 0, 1
SHORT_LIFE_S = 10.0
"""A replica that ends within this time after its start counts as crashing."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 10.0
"""Delay before the restart of a replica that crashes repeatedly: doubled each time, up to the longest."""
MOST_FAILED_STARTS = 3
"""While no replica serves, so many starts in a row may fail."""
ANSWER_S = 2.0
"""How long a scrape waits for a replica; then its last figures count."""
KILL_S = 5.0
"""How long after the drain a replica is killed."""
LOOK_S = 1.0
LEAST_SILENCE_S = 20.0
"""So long at least a replica may be silent, which reports once a second from the end of its imports on."""


def supervise(settings: Settings) -> int:
    """Serve with several processes until SIGTERM or SIGINT. Returns the exit code."""
    writer = LogWriter(sys.stderr.fileno())
    writer.write_as(settings.log_format)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[writer])
    orphans.adopt()
    environ = environment()
    for level, line in sagemaker.explain(environ, aliases(), settings.port, unreadable_aliases(environ)):
        log.log(level, line)
    try:
        count = count_of(settings)
        with contextlib.ExitStack() as stack:
            ports = {name: getattr(settings, name) for name in ("port", "grpc_port")}
            for name, port in ports.items():
                if port >= 0:
                    sock = stack.enter_context(reserve(settings.host, port, flag(name)))
                    ports[name] = sock.getsockname()[1]
            return asyncio.run(Supervisor(dataclasses.replace(settings, **ports, processes=count)).run())
    except SlipwayError as error:
        log.critical("%s", fatal.line(error))
        return FAILED


def count_of(settings: Settings) -> int:
    """The number of processes. Raises BadSetting where several cannot serve."""
    count = settings.processes or available_cores()
    if settings.sessions and count > 1:
        if settings.processes:
            raise BadSetting("stateful sessions live in one process: use --processes 1, or --no-sessions")
        log.info("processes=1: stateful sessions live in one process")
        return 1
    return count


class Supervisor:
    """The replicas of one server, by number. ``settings`` hold the number of processes and the true port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._environ = environment()
        self._gpus = divide(settings.processes, settings.gpus, gpu.read(), self._environ.get(VISIBLE))
        self._token = secrets.token_urlsafe(24)
        self._replicas: dict[int, Replica] = {}
        self._changing = asyncio.Lock()
        self._state: dict[str, Any] | None = None
        self._departed: list[Family] = []
        self._restarts = dict.fromkeys(range(settings.processes), 0)
        self._up = False
        self._received: signal.Signals | None = None
        self._code = STOPPED
        self._stopping = asyncio.Event()
        self._loaded = asyncio.Event()  # the first replica has loaded: the others may start

    async def run(self) -> int:
        """Keep all replicas running until a signal, or until they cannot be started. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(one) != signal.SIG_IGN:
                loop.add_signal_handler(one, self._terminate, one)
        watch = asyncio.ensure_future(self._watch())
        await asyncio.gather(*(self._keep(number) for number in range(self._settings.processes)))
        watch.cancel()
        if self._code == STOPPED:
            log.info("stopped")
        return self._code

    def _terminate(self, received: signal.Signals) -> None:
        """Tell the signal to all replicas, which drain; a second one ends them at once."""
        again, self._received = self._received is not None, received
        grace_s = self._settings.drain_grace_s if received is signal.SIGTERM else 0.0
        if not again:
            log.info("draining all processes signal=%s grace_s=%g", received.name, grace_s)
        self._end(received, grace_s)

    def _end(self, sent: signal.Signals, grace_s: float) -> None:
        """Send a signal to all replicas; the first time, kill those that outlive their drain."""
        if not self._stopping.is_set():
            until_s = grace_s + self._settings.drain_timeout_s + KILL_S
            asyncio.get_running_loop().call_later(until_s, self._kill)
        self._stopping.set()
        for replica in self._replicas.values():
            replica.signal(sent)

    def _kill(self) -> None:
        for replica in self._replicas.values():
            log.error("process does not end; it is killed process=%d", replica.number)
            self._code = FAILED
            replica.signal(signal.SIGKILL)

    def _give_up(self, reason: str) -> None:
        """End all replicas with a failure."""
        if not self._stopping.is_set():
            self._code = FAILED
            if reason:
                log.critical("%s", fatal.line(ModelFailed(reason)))
            self._end(signal.SIGTERM, self._settings.drain_grace_s)

    # The life of a replica

    async def _keep(self, number: int) -> None:
        """Start a replica, wait for its end, start it again."""
        delay_s, crashes, failed_starts = 0.0, 0, 0
        if number:
            await self._first_of(self._loaded.wait())
        while not self._stopping.is_set():
            begun_s = time.monotonic()
            replica = Replica(number, self._handle)
            code = await self._live(replica)
            if self._stopping.is_set():
                self._code = self._code or (STOPPED if code in (STOPPED, -(self._received or 0)) else FAILED)
                return
            served = replica.served
            failed_starts = 0 if served else failed_starts + 1
            reason = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            if not served and not self._up and code == FAILED:
                self._give_up("")  # the replica has logged why
                return
            if failed_starts >= MOST_FAILED_STARTS and not any(one.joined for one in self._replicas.values()):
                self._give_up(f"the processes of the server end while they start: {reason}")
                return
            self._restarts[number] += 1
            crashes = crashes + 1 if not served or time.monotonic() - begun_s < SHORT_LIFE_S else 0
            delay_s = min(2 * delay_s or FIRST_DELAY_S, LONGEST_DELAY_S) if crashes > 1 else 0.0
            log.error("process ended; it is restarted process=%d reason=%r delay_s=%.1f", number, reason, delay_s)
            await self._first_of(asyncio.sleep(delay_s))

    async def _first_of(self, work: Any) -> None:
        """Wait for ``work``, or until the server stops."""
        ends = [asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for one in ends:
            one.cancel()

    async def _live(self, replica: Replica) -> int:
        """One life of a replica. Returns its exit code."""
        number, gpus = replica.number, self._gpus[replica.number]
        shown = {VISIBLE: ",".join(gpus.names)} if gpus.names else {}
        try:
            replica.start({**self._environ, **shown})
        except OSError as error:
            log.error("no process can be started: %s", error.strerror)
            return FAILED
        self._replicas[number] = replica
        log.info("process started process=%d pid=%d", number, replica.pid)
        if gpus.names:
            log.info("GPUs of a process process=%d gpus=%s sharers=%d", number, ",".join(gpus.names), gpus.sharers)
        first = number == 0 and not self._up
        order = Order(number, dataclasses.asdict(share_of(self._settings, gpus)), self._token, first)
        try:
            return await replica.run(dataclasses.asdict(order))
        finally:
            del self._replicas[number]
            self._departed = merge([self._departed, counted(replica.families)])
            self._announce()

    async def _join(self, replica: Replica) -> None:
        """Bring a replica that has loaded to the state of the others, and let it serve."""
        async with self._changing:
            try:
                state = await self._common_state(replica)
                if state is not None:
                    await replica.channel.call("follow", state)
                await replica.channel.call("join")
                replica.joined = replica.served = True
            except ChannelClosed:
                return
            except SlipwayError as error:
                log.error(
                    "process cannot follow the others; it is ended process=%d error=%r", replica.number, str(error)
                )
                replica.signal(signal.SIGKILL)
                return
        if replica.number == 0:
            self._loaded.set()
        if len(self._replicas) == self._settings.processes and all(one.joined for one in self._replicas.values()):
            if not self._up:
                log.info("all processes are ready processes=%d", len(self._replicas))
            self._up = True
        self._announce()

    async def _common_state(self, apart: Replica) -> dict[str, Any] | None:
        """The state of a replica that serves, else the last one that is known."""
        for one in list(self._replicas.values()):
            if one.joined and one is not apart:
                with contextlib.suppress(ChannelClosed, SlipwayError):
                    return dict(await one.channel.call("state"))
        return self._state

    async def _watch(self) -> None:
        """Replace replicas whose event loop does not turn: their clients, changes of all and scrapes wait for them.

        The time counts in which this process runs, so that nobody is silent when all were stopped together.
        """
        limit_s = max(self._settings.stall_s, LEAST_SILENCE_S) if self._settings.stall_s else float("inf")
        while True:
            await asyncio.sleep(LOOK_S)
            for one in self._replicas.values():
                one.silent_s += LOOK_S
                if one.silent_s > limit_s and not self._stopping.is_set():
                    log.error("process does not respond; it is replaced process=%d", one.number)
                    one.signal(signal.SIGKILL)
            self._announce()

    def _announce(self) -> None:
        """Tell all replicas why the server is not ready; an empty reason: it is."""
        held = self._reason()
        for replica in self._replicas.values():
            if replica.told != held and replica.channel.tell("held", held):
                replica.told = held

    def _reason(self) -> str:
        if not self._up:
            joined = sum(one.joined for one in self._replicas.values())
            return f"the server is starting: {joined} of {self._settings.processes} processes are ready"
        for one in self._replicas.values():
            if one.joined and not one.ready:
                return f"process {one.number}: {one.reason}"
        return ""

    # Calls of replicas

    async def _handle(self, replica: Replica, name: str, argument: Any) -> Any:
        if name == "status":
            return self._note(replica, **argument)
        if name == "gather":
            return [answer for _, answer in await self._gather(argument["name"], argument["argument"], replica)]
        if name == "scrape":
            return await self._scrape()
        return await self._change(replica, argument)

    def _note(self, replica: Replica, loaded: bool, ready: bool, reason: str) -> None:
        replica.silent_s = 0.0
        replica.ready, replica.reason = ready, reason
        if loaded and not replica.loaded:
            replica.loaded = True
            task = asyncio.ensure_future(self._join(replica))
            replica.tasks.add(task)
            task.add_done_callback(replica.tasks.discard)
        self._announce()

    async def _gather(self, name: str, argument: Any = None, apart: Replica | None = None) -> list[tuple[Replica, Any]]:
        """The other replicas that answer in time, with their answers."""
        asked = [one for one in self._replicas.values() if one.joined and one is not apart]
        calls = (asyncio.wait_for(one.channel.call(name, argument), ANSWER_S) for one in asked)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        pairs = zip(asked, answers, strict=True)
        return [(one, answer) for one, answer in pairs if not isinstance(answer, BaseException)]

    async def _scrape(self) -> list[Family]:
        for one, families in await self._gather("families"):
            one.families = families
        living = {number: one.families for number, one in sorted(self._replicas.items()) if one.families}
        merged = merge(living.values())
        self._departed = still_shown(self._departed, merged)
        return [*merge([merged, self._departed]), *of_each(living), *self._own()]

    def _own(self) -> list[Family]:
        """The families of the supervisor."""
        numbers = range(self._settings.processes)
        up = [number in self._replicas and self._replicas[number].joined for number in numbers]
        rows = (
            ("slipway_replica_up", "gauge", "1 while a process serves, else 0", "", [float(one) for one in up]),
            (
                *("slipway_replica_restarts", "counter", "Processes that ended and were started again", "_total"),
                [self._restarts[number] for number in numbers],
            ),
        )
        return [
            {
                "name": name,
                "type": kind,
                "text": text,
                "samples": [[name + suffix, {"replica": str(n)}, value] for n, value in enumerate(values)],
            }
            for name, kind, text, suffix, values in rows
        ]

    async def _change(self, origin: Replica, change: dict[str, Any]) -> Any:
        """Make a change in one replica, then in the others. Raises its error, or that of a replica that cannot follow,
        after all have gone back to the state before. A replica that has not joined is not in the others' state yet:
        raises NotReady."""
        async with self._changing:
            if not origin.joined:
                raise NotReady("the server is starting; make the change when it is ready")
            done = await origin.channel.call("apply", change)
            before, self._state = done["before"], done["after"]
            if before != self._state:
                failed = await self._follow(self._state, origin)
                if failed is not None:
                    log.error("change undone kind=%s error=%r", change["kind"], str(failed))
                    self._state = before
                    await self._follow(before, None)
                    raise failed
            return {key: done[key] for key in ("result", "error") if key in done}

    async def _follow(self, state: dict[str, Any], origin: Replica | None) -> SlipwayError | None:
        """Bring the other replicas to a state. Returns the first error. One that fails to go back is replaced."""
        others = [one for one in self._replicas.values() if one.joined and one is not origin]
        answers = await asyncio.gather(*(one.channel.call("follow", state) for one in others), return_exceptions=True)
        first = None
        for one, answer in zip(others, answers, strict=True):
            if isinstance(answer, SlipwayError):
                first = first or answer
                if origin is None:
                    log.error("process cannot go back; it is replaced process=%d error=%r", one.number, str(answer))
                    one.signal(signal.SIGKILL)
        return first
