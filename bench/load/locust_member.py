"""A process of the locust engine: sends one share of a load and returns its rows.

    python -m bench.load.locust_member FILE_DESCRIPTOR

is started by ``fleet``, which sends the share over a pipe. It is a program of its own, because importing locust patches
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
from .callers import Callers
from .fleet import READY, reporting
from .gevent_driver import GeventDriver
from .measurements import Ending, Measurements, Outcome, Request, kind_of
from .raw_run import RawRun
from .schedule import Schedule
from .shot import Shot

assert locust.stats.bucket_response_time is locust_user.precise_response_time  # else locust rounds response times


class Failed(Exception):
    """The exception of a failed request in locust's statistics and events; the message is the kind of failure."""


class LocustMeasurements(Measurements):
    """Rows that are also events of locust, with response times from the intended instant."""

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
    """Send the share from one locust user under locust's own runner."""
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
        """The only user of the process: it waits for no response, its connections do."""

        @task
        def keep_schedule(self) -> None:
            try:
                ended.set(_drive(self.environment, connection, shot, what))
            except Exception as error:  # noqa: BLE001 - locust would log it and call this task again
                ended.set_exception(error)
            raise StopUser

    return ScheduledUser


def _drive(environment: Environment, connection: Any, shot: Shot, what: Schedule | Callers) -> RawRun:
    driver = GeventDriver()
    method = shot.wires[0].pieces[0].split(b" ", 1)[0].decode()
    rows = LocustMeasurements(environment, shot.target.path, method)
    load = loops.make(shot, what, time.perf_counter_ns, driver, rows)

    def gate() -> int:
        # Blocking is right: no other greenlet has work yet.
        connection.send(READY)
        start_ns: int = connection.recv()
        gevent.signal_handler(signal.SIGTERM, load.interrupt)
        return start_ns

    return driver.drive(load, reporting(connection.send), gate)


def main() -> None:
    """The program that ``fleet`` starts."""
    connection: Any = Connection(int(sys.argv[1]))
    connection.send(send(connection, *connection.recv()))
    connection.close()


if __name__ == "__main__":
    main()
