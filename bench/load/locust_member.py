"""A process of locust's that sends one share of a load, and brings its rows back.

    python -m bench.load.locust_member FILE_DESCRIPTOR

is started by ``fleet``, over whose pipe it is told what to send. A program of its own, because importing locust patches
sockets and threads of the whole process.
"""

from __future__ import annotations

import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import gevent
import locust.stats
from gevent.event import AsyncResult
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from . import locust_user, loops
from .fleet import READY, TELL_EVERY_S, Callers
from .loops import RawRun, Shot, Snapshot
from .measurements import Ending, Measurements, Outcome, Request, kind_of
from .reactor_gevent import GeventReactor
from .schedule import Schedule

assert locust.stats.bucket_response_time is locust_user.precise_response_time  # else locust rounds what it is told


class Failed(Exception):
    """What locust's statistics and listeners are told of a request that failed: its kind."""


class ToldToLocust(Measurements):
    """Rows, of which locust's statistics and listeners hear as well; response times from the intended instant."""

    def __init__(self, environment: Environment, name: str, method: str) -> None:
        super().__init__()
        self._fire: Any = environment.events.request.fire
        self._name = name
        self._method = method

    def add(self, request: Request, ending: Ending, last_byte_ns: int) -> None:
        super().add(request, ending, last_byte_ns)
        failed = None if ending.outcome == Outcome.OK else Failed(kind_of(ending.outcome, ending.status))
        self._fire(
            request_type=self._method,
            name=self._name,
            response_time=(last_byte_ns - request.due_ns) / 1e6,
            response_length=ending.bytes_in,
            exception=failed,
            context={},
        )


def send(connection: Any, shot: Shot, what: Schedule | Callers) -> RawRun:
    """Have one locust user keep the schedule (or be all the callers of this share) under locust's own runner."""
    environment = Environment(user_classes=[_user(ended := AsyncResult(), connection, shot, what)])
    runner = environment.create_local_runner()
    runner.start(1, spawn_rate=1)
    try:
        result: RawRun = ended.get()
    finally:
        runner.quit()
    return result


def _user(ended: Any, connection: Any, shot: Shot, what: Schedule | Callers) -> type[User]:
    class ScheduledUser(User):
        """One user per process: what waits is not the user but its connections."""

        @task
        def keep_schedule(self) -> None:
            try:
                ended.set(_drive(self.environment, connection, shot, what))
            except Exception as error:  # noqa: BLE001 - locust would log it and call this task again
                ended.set_exception(error)
            raise StopUser

    return ScheduledUser


def _drive(environment: Environment, connection: Any, shot: Shot, what: Schedule | Callers) -> RawRun:
    reactor, clock = GeventReactor(), time.perf_counter_ns
    method = shot.wires[0].pieces[0].split(b" ", 1)[0].decode()
    rows = ToldToLocust(environment, shot.target.path, method)
    if isinstance(what, Schedule):
        load: loops.Load = loops.OpenLoop(shot, what, clock, reactor, rows)
        connections = loops.warm_connections(what)
    else:
        load, connections = loops.ClosedLoop(shot, what.users, what.duration_s, clock, reactor, rows), what.users
    next_s = 0.0

    def gate() -> int:
        # Nothing else goes on in this process yet, so it may well block here.
        connection.send(READY)
        start_ns: int = connection.recv()
        gevent.signal_handler(signal.SIGTERM, load.interrupt)
        return start_ns

    def watch(now: Snapshot) -> None:
        nonlocal next_s
        if now.elapsed_s >= next_s:
            next_s = now.elapsed_s + TELL_EVERY_S
            connection.send(now)

    return reactor.drive(load, watch, gate, connections)


def main() -> None:
    """The program; its argument is written by ``fleet``."""
    connection: Any = Connection(int(sys.argv[1]))
    connection.send(send(connection, *connection.recv()))
    connection.close()


if __name__ == "__main__":
    main()
