"""Models of users that wait: for a lock, a disk, another service, a collection of garbage."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import sqlite3
import threading
import time
from collections import defaultdict
from pathlib import Path
from queue import SimpleQueue
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


class Polled:
    """A queue between web server and model: the model looks into it every ``pause_s`` and answers all that is there,
    and a request looks for its answer every ``look_s``."""

    def __init__(self, pause_s: float, look_s: float) -> None:
        self._jobs: SimpleQueue[threading.Event] = SimpleQueue()
        self._look_s = look_s
        threading.Thread(target=self._answer, args=(pause_s,), daemon=True).start()

    def _answer(self, pause_s: float) -> None:
        while True:
            time.sleep(pause_s)
            while not self._jobs.empty():
                self._jobs.get().set()

    def predict(self, _body: dict[str, Any]) -> Any:
        job = threading.Event()
        self._jobs.put(job)
        while not job.is_set():
            time.sleep(self._look_s)
        return {"values": [1.0]}


class Flushes:
    """A log that is written to a slow share after every ``every`` requests, in ``seconds``; all others wait."""

    def __init__(self, every: int, seconds: float) -> None:
        self._every, self._seconds, self._count = every, seconds, 0
        self._lock = threading.Lock()

    def predict(self, _body: dict[str, Any]) -> Any:
        with self._lock:
            self._count += 1
            if self._count % self._every == 0:
                time.sleep(self._seconds)
        return {"values": [1.0]}


class Rules:
    """A file of so many ``rules``, which a thread reads every ``pause_s``: ``json.loads`` keeps the interpreter's
    lock."""

    def __init__(self, rules: int, pause_s: float, folder: Path) -> None:
        self._path, self._pause_s = folder / "rules.json", pause_s
        self._path.write_text(json.dumps({f"rule {at}": [at, at / 2, "allow"] for at in range(rules)}))
        self._rules: dict[str, Any] = json.loads(self._path.read_text())
        threading.Thread(target=self._reload, daemon=True).start()

    def _reload(self) -> None:
        while True:
            time.sleep(self._pause_s)
            self._rules = json.loads(self._path.read_text())

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": [float("rule 7" in self._rules)]}
