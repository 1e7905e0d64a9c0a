"""Models of users that wait: for a lock, a disk, another service, a collection of garbage."""

from __future__ import annotations

import fcntl
import gc
import os
import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np


class Downstream:
    """A call of another service, which takes ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def predict(self, body: dict[str, Any]) -> Any:
        time.sleep(self._seconds)
        return {"values": [float(len(body["values"]))]}


class Device:
    """A device that one process may use at a time, for ``seconds``: a lock on a file of ``folder`` guards it."""

    def __init__(self, seconds: float, folder: Path) -> None:
        self._seconds, self._path = seconds, folder / "device.lock"

    def predict(self, body: dict[str, Any]) -> Any:
        with self._path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            time.sleep(self._seconds)
        return {"values": [float(len(body["values"]))]}


class Database:
    """Every request is written into one SQLite file of ``folder``; the transaction lasts ``seconds``."""

    def __init__(self, seconds: float, folder: Path) -> None:
        self._seconds, self._path = seconds, folder / "requests.db"
        with sqlite3.connect(self._path, timeout=30.0) as connection:
            connection.execute("create table if not exists requests (length integer)")

    def predict(self, body: dict[str, Any]) -> Any:
        connection = sqlite3.connect(self._path, timeout=30.0, isolation_level=None)
        try:
            connection.execute("begin exclusive")
            connection.execute("insert into requests values (?)", (len(body["values"]),))
            time.sleep(self._seconds)
            connection.execute("commit")
        finally:
            connection.close()
        return {"values": [float(len(body["values"]))]}


class Collects:
    """An author who is afraid of leaks: ``gc.collect()`` after every ``every`` requests, with many ``objects``."""

    def __init__(self, every: int, objects: int) -> None:
        self._every, self._count = every, 0
        self._cache = {at: [at] for at in range(objects)}

    def predict(self, body: dict[str, Any]) -> Any:
        self._count += 1
        if self._count % self._every == 0:
            gc.collect()
        return {"values": [float(len(body["values"]) in self._cache)]}


class Leaks:
    """A heap that grows by ``objects`` a request, with a full collection after every ``every`` requests."""

    def __init__(self, objects: int, every: int, already: int) -> None:
        self._objects, self._every, self._count = objects, every, 0
        self._heap: list[Any] = [[at] for at in range(already)]

    def predict(self, _body: dict[str, Any]) -> Any:
        self._count += 1
        self._heap += [[at] for at in range(self._objects)]
        if self._count % self._every == 0:
            gc.collect()
        return {"values": [1.0]}


class Reloads:
    """A thread that takes the model's lock for ``for_s`` every ``every_s``, to load new weights."""

    def __init__(self, every_s: float, for_s: float) -> None:
        self._lock = threading.Lock()
        self._every_s, self._for_s = every_s, for_s
        threading.Thread(target=self._reload, daemon=True).start()

    def _reload(self) -> None:
        while True:
            time.sleep(self._every_s)
            with self._lock:
                time.sleep(self._for_s)

    def predict(self, body: dict[str, Any]) -> Any:
        with self._lock:
            return {"values": [float(np.sum(body["values"]))]}


class Compacts:
    """A store that compacts itself ``rate`` times a second, at irregular times, for ``low_s`` to ``high_s``; requests
    wait for it, and not for each other."""

    def __init__(self, rate: float, low_s: float, high_s: float) -> None:
        self._ready = threading.Event()
        self._ready.set()
        threading.Thread(target=self._compact, args=(rate, low_s, high_s), daemon=True).start()

    def _compact(self, rate: float, low_s: float, high_s: float) -> None:
        at = random.Random(3)
        while True:
            time.sleep(at.expovariate(rate))
            self._ready.clear()
            time.sleep(at.uniform(low_s, high_s))
            self._ready.set()

    def predict(self, _body: dict[str, Any]) -> Any:
        self._ready.wait()
        return {"values": [1.0]}


class Looks:
    """The address of a service, forgotten ``every_s`` after it was looked up; a look-up takes ``seconds``, and all
    requests wait for it."""

    def __init__(self, every_s: float, seconds: float) -> None:
        self._every_s, self._seconds, self._until_s = every_s, seconds, 0.0
        self._lock = threading.Lock()

    def predict(self, _body: dict[str, Any]) -> Any:
        with self._lock:
            if time.monotonic() > self._until_s:
                time.sleep(self._seconds)
                self._until_s = time.monotonic() + self._every_s
        return {"values": [1.0]}


class Parts:
    """A part of the model for each remainder of the length by ``parts``; the first request of each loads it, for
    ``seconds``, before all others."""

    def __init__(self, parts: int, seconds: float) -> None:
        self._parts, self._seconds = parts, seconds
        self._loaded: set[int] = set()
        self._lock = threading.Lock()

    def predict(self, body: dict[str, Any]) -> Any:
        part = len(body["values"]) % self._parts
        with self._lock:
            if part not in self._loaded:
                time.sleep(self._seconds)
                self._loaded.add(part)
        return {"values": [float(part)]}


class Logs:
    """A page of log for each request, into a pipe of one page whose reader takes ``seconds`` for each."""

    def __init__(self, seconds: float) -> None:
        self._reader, self._writer = os.pipe()
        fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, 4_096)
        threading.Thread(target=self._read, args=(seconds,), daemon=True).start()

    def _read(self, seconds: float) -> None:
        while os.read(self._reader, 4_096):
            time.sleep(seconds)

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": [float(os.write(self._writer, bytes(4_096)))]}


class Retries:
    """One connection behind a lock: a call takes ``seconds``, and every third one is tried again after ``wait_s``."""

    def __init__(self, seconds: float, wait_s: float) -> None:
        self._seconds, self._wait_s, self._count = seconds, wait_s, 0
        self._lock = threading.Lock()

    def predict(self, _body: dict[str, Any]) -> Any:
        with self._lock:
            self._count += 1
            time.sleep(self._seconds if self._count % 3 else 2 * self._seconds + self._wait_s)
        return {"values": [1.0]}


class Reports:
    """Rows and reports behind one lock: a body with ``report`` holds it for ``report_s``, another for ``seconds``."""

    def __init__(self, seconds: float, report_s: float) -> None:
        self._seconds, self._report_s = seconds, report_s
        self._lock = threading.Lock()

    def predict(self, body: dict[str, Any]) -> Any:
        with self._lock:
            time.sleep(self._report_s if "report" in body else self._seconds)
        return {"values": [1.0]}


class Window:
    """Requests on threads wait ``for_s`` for company, or until ``size`` are there, and are answered together."""

    def __init__(self, for_s: float, size: int) -> None:
        self._for_s, self._size = for_s, size
        self._open: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def predict(self, body: dict[str, Any]) -> Any:
        with self._changed:
            mine = self._open
            mine.append(body)
            full = len(mine) == self._size
            if full or not self._changed.wait_for(lambda: self._open is not mine, self._for_s):
                self._open = []
                self._changed.notify_all()
        return {"values": [float(len(mine))]}


class Disk:
    """A file of ``megabytes``, read for each request from the disk: the page cache drops it first."""

    def __init__(self, megabytes: int, folder: Path) -> None:
        self._path = folder / "weights.bin"
        self._path.write_bytes(np.random.default_rng(0).bytes(megabytes * 1_000_000))

    def predict(self, _body: dict[str, Any]) -> Any:
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return {"values": [float(len(file.read()))]}
