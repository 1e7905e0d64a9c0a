"""The burst probe: a few requests alone, together, and one after another, to see how a server takes turns.

It works for any HTTP server, needs nothing of it but answers, and lasts some seconds. Alone: the latency without a
queue. Together: 2, 4 and 8 requests at once; the instants of their answers show whether the server works on one at a
time. Staggered: a second request halfway through the first; a server that waits for a batch answers both at once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ..errors import Unusable
from .connection import Clock
from .exchange import Answer, Line, exchange
from .target import Target
from .wire import Wire

SIZES = (2, 4, 8)
ALONE = 15
REPEATS = 5
BUDGET_S = 4.0
SETTLE_S = 0.05
"""Where the server keeps no connection, the next one is open for so long before its request: what opening costs is then
the difference to a fresh one, also where a proxy works on it after it has accepted."""
QUIET_S = 0.4
"""Time in which the probe sends nothing, to see what the server does without it."""
MIN_ALONE = 3
FLOORS, FLOOR_BUDGET_S = 40, 1.0
"""Requests without a model, to meet what holds up one in twenty of them."""
PADDING_BYTES = 20_000
"""The least white space that makes a JSON body longer; a body of this size or more is doubled."""
FLOOR_PATH = "/ping"


@dataclass(frozen=True, slots=True)
class Work:
    """CPU time of the server's processes, and the time that they were ready and waited for a core, in ns so far."""

    cpu_ns: float
    run_delay_ns: float


@dataclass(frozen=True, slots=True)
class Together:
    """``size`` requests sent at once: the median latency of the first answer, the second, and so on, in ms."""

    size: int
    ends_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Burst:
    """The result of the probe; a field is None where it could not be measured.

    ``alone_ms``: median latency of a request without another one. ``floor_ms``: of a request that needs no model, and
    ``floor_slow_ms`` the longest of them.
    ``connect_ms``: time to open a connection. ``fresh_ms``: latency of a request with a new connection for it.
    ``staggered_ms``: latency of a request that was sent ``stagger_ms`` after another one. ``padded_ms``: latency alone
    of a JSON body with ``padding_bytes`` of white space more. ``reading_ms``: from the first byte of a response to its
    last. ``cpu_ms`` and ``run_delay_ms``: of the server, per request alone. ``quiet_cores``: CPU of the server while
    the probe sent nothing. ``upload_ms``: what a large request needs to the next machine or proxy, by TCP's own rate.
    ``requests``, ``failed``: sent by the probe.
    """

    alone_ms: float
    floor_ms: float | None
    connect_ms: float
    fresh_ms: float | None
    together: tuple[Together, ...]
    stagger_ms: float | None
    staggered_ms: float | None
    padding_bytes: int
    padded_ms: float | None
    reading_ms: float
    reply_bytes: int
    cpu_ms: float | None
    run_delay_ms: float | None
    quiet_cores: float | None
    requests: int
    failed: int
    seconds: float
    floor_slow_ms: float | None = None
    upload_ms: float | None = None


class Prober:
    """Sends requests on up to eight kept connections, opened again when the server closes them.

    Once it closed one, those that are opened again are open for ``SETTLE_S`` before their request.
    """

    def __init__(
        self,
        target: Target,
        timeout_s: float,
        clock: Clock = time.perf_counter_ns,
        quiet: Callable[[float], object] = time.sleep,
    ) -> None:
        self._closes = False
        self._quiet = quiet
        self._target = target
        self._timeout_s = timeout_s
        self._clock = clock
        self._tls = target.tls_context()
        self._lines: list[Line] = []
        self.connects_ms: list[float] = []
        self.sent = self.failed = 0

    def send(self, wires: Sequence[bytes], gap_ms: float = 0.0, fresh: bool = False) -> list[Answer]:
        """The answers to these requests, sent ``gap_ms`` apart, each on its own connection. Raises OSError."""
        if fresh:
            self.close()
        for line in [one for one in self._lines if not one.is_idle()]:
            self._drop(line)
        kept, missing = bool(self._lines), len(wires) - len(self._lines)
        self._lines += [self._open() for _ in range(missing)]
        if missing > 0 and self._closes and not fresh:
            self._quiet(SETTLE_S)
        used = self._lines[: len(wires)]
        answers = exchange(used, wires, gap_ms, self._timeout_s, self._clock)
        for line, answer in zip(used, answers, strict=True):
            if not answer.kept:
                self._drop(line)
        if kept and not all(one.status for one in answers):
            self.close()  # the server closed a connection while the request was under way to it
            return self.send(wires, gap_ms)
        self.sent += len(wires)
        self.failed += sum(not one.ok for one in answers)
        return answers

    def at_once(self, wires: Sequence[bytes], gap_ms: float = 0.0) -> list[Answer]:
        """The same on other connections than before: a server of several processes spreads them anew, while kept ones
        could all belong to one process."""
        self.close()
        return self.send(wires, gap_ms)

    def close(self) -> None:
        for line in self._lines:
            line.socket.close()
        self._lines = []

    def _drop(self, line: Line) -> None:
        line.socket.close()
        self._lines.remove(line)
        self._closes = True

    def _open(self) -> Line:
        begun_ns = self._clock()
        raw = socket.create_connection((self._target.host, self._target.port), timeout=self._timeout_s)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            raw = self._tls.wrap_socket(raw, server_hostname=self._target.host)
        self.connects_ms.append((self._clock() - begun_ns) / 1e6)
        return Line(raw)


def probe(
    target: Target,
    wire: Wire,
    timeout_s: float,
    work: Callable[[], Work | None] = lambda: None,
    quiet: Callable[[float], object] = time.sleep,
) -> Burst | None:
    """Probe the server with this request. None if it cannot be reached or does not answer with success.

    ``work``: reads the counters of the server's processes; it gives None where they are unknown.
    """
    prober = Prober(target, timeout_s, quiet=quiet)
    try:
        return _probe(prober, target, wire, work, quiet)
    except OSError:
        return None
    finally:
        prober.close()


def one_by_one(target: Target, wire: Wire, count: int, timeout_s: float) -> list[float]:
    """The latencies of the first requests to a server, in ms, one after another. Raises Unusable if one fails."""
    prober = Prober(target, timeout_s)
    try:
        answers = [prober.send([wire.numbered(number)])[0] for number in range(count)]
    except OSError as error:
        raise Unusable(f"{target.root} does not answer: {error}") from error
    finally:
        prober.close()
    if not all(one.ok for one in answers):
        raise Unusable(f"{target.root} answers a request with {answers[-1].status}")
    return [one.ms for one in answers]


def _probe(
    prober: Prober,
    target: Target,
    wire: Wire,
    work: Callable[[], Work | None],
    quiet: Callable[[float], object],
) -> Burst | None:
    begun_s = time.perf_counter()
    request = wire.numbered(0)
    # The first answer may still wait for what the load left behind.
    if not prober.send([request])[0].ok:
        return None
    quiet_cores = _quiet_cores(work, quiet)
    before, alone = work(), _alone(prober, request)
    after = work()
    if len(alone) < MIN_ALONE:
        return None
    alone_ms = median(one.ms for one in alone)
    repeats = max(min(REPEATS, int(BUDGET_S * 1e3 / (alone_ms * 25 + 1))), 1)
    stagger_ms = alone_ms / 2
    padding = _padding(wire, request)
    floor = _floor(prober, target)
    return Burst(
        alone_ms=alone_ms,
        floor_ms=_median(floor),
        floor_slow_ms=max(floor, default=None),
        connect_ms=median(prober.connects_ms),
        together=tuple(_together(prober, request, size, repeats) for size in SIZES),
        stagger_ms=stagger_ms,
        staggered_ms=_median(
            answers[1].ms
            for answers in (prober.at_once([request] * 2, stagger_ms) for _ in range(repeats))
            if all(one.ok for one in answers)
        ),
        padding_bytes=len(padding) - len(request) if padding is not None else 0,
        padded_ms=_alone_ms(prober, padding, repeats) if padding is not None else None,
        fresh_ms=_median(
            one.ms + prober.connects_ms[-1]
            for one in (prober.send([request], fresh=True)[0] for _ in range(repeats))
            if one.ok
        ),
        reading_ms=median(one.reading_ms for one in alone),
        upload_ms=_median(one.upload_ms for one in alone if one.upload_ms is not None),
        reply_bytes=alone[0].body_bytes,
        cpu_ms=_per_request(before, after, "cpu_ns", len(alone)),
        run_delay_ms=_per_request(before, after, "run_delay_ns", len(alone)),
        quiet_cores=quiet_cores,
        requests=prober.sent,
        failed=prober.failed,
        seconds=time.perf_counter() - begun_s,
    )


def _alone(prober: Prober, request: bytes) -> list[Answer]:
    """Answers to requests one after another, until there are enough or a third of the time is gone."""
    found: list[Answer] = []
    end_s = time.perf_counter() + BUDGET_S / 3
    while len(found) < ALONE and (len(found) < MIN_ALONE or time.perf_counter() < end_s):
        answer = prober.send([request])[0]
        if not answer.ok:
            break
        found.append(answer)
    return found


def _alone_ms(prober: Prober, request: bytes, repeats: int) -> float | None:
    answers = [prober.send([request])[0] for _ in range(repeats)]
    return _median(one.ms for one in answers) if all(one.ok for one in answers) else None


def _together(prober: Prober, request: bytes, size: int, repeats: int) -> Together:
    """The ends of the bursts in which every request succeeded; none if one always failed."""
    bursts = [prober.at_once([request] * size) for _ in range(repeats)]
    whole = [sorted(one.ms for one in answers) for answers in bursts if all(one.ok for one in answers)]
    return Together(size, tuple(median(each) for each in zip(*whole, strict=True)))


def _floor(prober: Prober, target: Target) -> list[float]:
    """The latencies in ms of requests that need no model. Any answer counts, also a 404."""
    request = f"GET {FLOOR_PATH} HTTP/1.1\r\nHost: {target.authority}\r\nAccept: */*\r\n\r\n".encode("ascii")
    answers: list[Answer] = []
    end_s = time.perf_counter() + FLOOR_BUDGET_S
    while len(answers) < FLOORS and (len(answers) < REPEATS or time.perf_counter() < end_s):
        answers += prober.send([request])
    prober.failed -= sum(not one.ok for one in answers)
    return [one.ms for one in answers if one.status]


def _padding(wire: Wire, request: bytes) -> bytes | None:
    """The request with white space after its JSON body; None for a body of another kind."""
    head, split, body = request.partition(b"\r\n\r\n")
    if not split or b"application/json" not in head.lower() or len(body) != wire.body_bytes or not body:
        return None
    length = len(body) + max(PADDING_BYTES, len(body))
    lines = [
        b"Content-Length: %d" % length if line.lower().startswith(b"content-length:") else line
        for line in head.split(b"\r\n")
    ]
    return b"\r\n".join(lines) + split + body + b" " * (length - len(body))


def _quiet_cores(work: Callable[[], Work | None], quiet: Callable[[float], object]) -> float | None:
    before, begun_s = work(), time.perf_counter()
    quiet(QUIET_S)
    after, lasted_s = work(), time.perf_counter() - begun_s
    if before is None or after is None or lasted_s <= 0:
        return None
    return max(after.cpu_ns - before.cpu_ns, 0.0) / 1e9 / lasted_s


def _per_request(before: Work | None, after: Work | None, name: str, requests: int) -> float | None:
    if before is None or after is None:
        return None
    grown: float = getattr(after, name) - getattr(before, name)
    return max(grown, 0.0) / 1e6 / requests


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(median(found)) if found else None
