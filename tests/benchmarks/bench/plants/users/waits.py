"""Models of users that wait: for a lock, a disk, another service, a collection of garbage."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import pickle
import sqlite3
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
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


class Slots:
    """A pool of ``slots`` connections to a service that takes ``seconds``."""

    def __init__(self, slots: int, seconds: float) -> None:
        self._free, self._seconds = threading.Semaphore(slots), seconds

    def predict(self, _body: dict[str, Any]) -> Any:
        with self._free:
            time.sleep(self._seconds)
        return {"values": [1.0]}


class Tenants:
    """A lock for each tenant, who is known by the length of the input; it is held for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._locks: dict[int, threading.Lock] = defaultdict(threading.Lock)
        self._seconds = seconds

    def predict(self, body: dict[str, Any]) -> Any:
        with self._locks[len(body["values"])]:
            time.sleep(self._seconds)
        return {"values": [1.0]}


class Spaced:
    """A client of a service with a rate limit: a call may begin ``seconds`` after the one before it."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next_s = seconds, 0.0
        self._lock = threading.Lock()

    def predict(self, _body: dict[str, Any]) -> Any:
        with self._lock:
            begin_s = max(self._next_s, time.monotonic())
            self._next_s = begin_s + self._seconds
        time.sleep(max(begin_s - time.monotonic(), 0.0))
        return {"values": [1.0]}


class Fans:
    """So many ``calls`` of a service for each request, on a pool of ``slots`` threads; each takes ``seconds``."""

    def __init__(self, calls: int, slots: int, seconds: float) -> None:
        self._pool, self._times = ThreadPoolExecutor(slots), [seconds] * calls

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": [float(len(list(self._pool.map(time.sleep, self._times))))]}


class Debounced:
    """Requests are answered together when none has come for ``quiet_s``."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s, self._last_s = quiet_s, 0.0

    def predict(self, _body: dict[str, Any]) -> Any:
        self._last_s = time.monotonic()
        while (left_s := self._last_s + self._quiet_s - time.monotonic()) > 0:
            time.sleep(left_s)
        return {"values": [1.0]}


class Snapshots:
    """A table of so many ``keys``, which a thread saves every ``pause_s``: ``pickle.dumps`` keeps the interpreter's
    lock."""

    def __init__(self, keys: int, pause_s: float) -> None:
        self._table, self._pause_s = {f"key {at}": [at, at / 2] for at in range(keys)}, pause_s
        threading.Thread(target=self._save, daemon=True).start()

    def _save(self) -> None:
        while True:
            time.sleep(self._pause_s)
            self._saved = pickle.dumps(self._table)

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": [float("key 7" in self._table)]}


class Misses:
    """A cache that is empty at the start: for each new length of the input a service is asked for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._cache: dict[int, float] = {}

    def predict(self, body: dict[str, Any]) -> Any:
        length = len(body["values"])
        if length not in self._cache:
            time.sleep(self._seconds)
            self._cache[length] = float(length)
        return {"values": [self._cache[length]]}


class Blocking:
    """A coroutine on an event loop of its own, which all requests share: it blocks the loop for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._loop = seconds, asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def _block(self) -> None:
        time.sleep(self._seconds)

    async def _call(self) -> None:
        self._block()

    def predict(self, _body: dict[str, Any]) -> Any:
        asyncio.run_coroutine_threadsafe(self._call(), self._loop).result()
        return {"values": [1.0]}


class Token:
    """A token of a service, which is good for ``every_s``: who finds it too old gets a new one in ``for_s``, and all
    others wait for it."""

    def __init__(self, every_s: float, for_s: float) -> None:
        self._every_s, self._for_s, self._until_s = every_s, for_s, time.monotonic() + every_s
        self._lock = threading.Lock()

    def predict(self, _body: dict[str, Any]) -> Any:
        with self._lock:
            if time.monotonic() > self._until_s:
                time.sleep(self._for_s)
                self._until_s = time.monotonic() + self._every_s
        return {"values": [1.0]}


class PerThread:
    """A model for each thread, which is fetched in ``seconds`` when the thread gets its first request."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._own = seconds, threading.local()

    def predict(self, _body: dict[str, Any]) -> Any:
        if not hasattr(self._own, "model"):
            time.sleep(self._seconds)
            self._own.model = 1.0
        return {"values": [self._own.model]}
