"""A locust user that keeps a schedule, for locust's web page, its distribution over machines, or users' scenarios.

Imported by locust files only: importing locust patches the standard library for gevent.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gevent
import locust.stats
from gevent.pool import Group
from locust import FastHttpUser, task
from locust.user.task import LOCUST_STATE_RUNNING

from . import payload
from .server_timing import CARRIERS

DIGITS = 4
ARRIVALS = ("poisson", "constant")
_number = itertools.count()


def precise_response_time(response_time_ms: float) -> float:
    """A response time as locust counts it, to four significant digits: 0.4 ms must not become 0 ms.

    Locust keeps one counter for each distinct value, and four digits limit them to 9,000 per power of ten.
    """
    if response_time_ms <= 0:
        return 0.0
    return round(response_time_ms, DIGITS - 1 - math.floor(math.log10(response_time_ms)))


# The module attribute is locust's documented way of replacing it.
locust.stats.bucket_response_time = precise_response_time  # type: ignore[assignment]  # its keys may be floats


class OpenLoopUser(FastHttpUser):
    """Sends one payload at ``rate_per_s`` whether or not earlier requests were answered.

    Locust's own users wait for an answer before they send again, so a server that stops for a second gets no
    request in that second, and the requests that would have waited are missing from the percentiles. Response times
    here count from the intended instant. Users add up: with ``-u 4`` the load is four times ``rate_per_s``, still
    Poisson.
    """

    abstract = True
    path: ClassVar[str] = "/invocations"
    payload: ClassVar[str] = ""
    content_type: ClassVar[str | None] = None
    rate_per_s: ClassVar[float] = 100.0
    arrivals: ClassVar[str] = "poisson"
    seed: ClassVar[int] = 1
    carrier: ClassVar[str] = "none"
    concurrency = 256
    connection_timeout = 10.0
    network_timeout = 10.0
    # A retry would be an unscheduled request within the latency of the first.
    max_retries = 0

    def on_start(self) -> None:
        if self.arrivals not in ARRIVALS:
            raise ValueError(f"arrivals must be one of {', '.join(ARRIVALS)}, not {self.arrivals!r}")
        body = payload.read(Path(self.payload), self.content_type)
        self._body = body.body
        self._headers = {"Content-Type": body.content_type, **dict(CARRIERS[self.carrier].request_headers)}
        # Each user draws its own arrivals, so that users do not send at the same instants.
        self._random = random.Random(f"{self.seed}/{next(_number)}")
        self._in_flight = Group()

    def on_stop(self) -> None:
        self._in_flight.kill()

    @task
    def keep_schedule(self) -> None:
        """Runs until locust stops the user: the schedule is absolute, so a late request does not delay the next."""
        start_s = time.perf_counter()
        for offset_s in arrival_offsets_s(self.arrivals, self.rate_per_s, self._random):
            due_s = start_s + offset_s
            wait_s = due_s - time.perf_counter()
            gevent.sleep(max(wait_s, 0))
            if self._state != LOCUST_STATE_RUNNING:
                return
            self._in_flight.start(gevent.Greenlet(self._send, due_s))

    def _send(self, due_s: float) -> None:
        with self.client.post(
            self.path,
            data=self._body,  # type: ignore[arg-type]  # bytes are meant
            headers=self._headers,
            catch_response=True,
        ) as reply:
            meta: dict[str, Any] = reply.request_meta
            meta["response_time"] = (time.perf_counter() - due_s) * 1e3


def arrival_offsets_s(arrivals: str, rate_per_s: float, source: random.Random) -> Iterator[float]:
    """Intended instants in seconds after the start, without an end: a locust user does not know the end of the run."""
    if arrivals == "constant":
        for number in itertools.count():
            yield number / rate_per_s
    offset_s = 0.0
    while True:
        offset_s += source.expovariate(rate_per_s)
        yield offset_s
