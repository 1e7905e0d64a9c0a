"""The code of a user: models as people write them, each with one habit that costs time.

It imports nothing of this project, because a user's script holds a copy of it. ``make(code)`` builds a model from its
kind and parameters; ``predict(body)`` answers one request, whose body is a decoded JSON object.
"""

from __future__ import annotations

import fcntl
import gc
import sqlite3
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np


class Light:
    """The sum of the numbers."""

    def predict(self, body: dict[str, Any]) -> Any:
        return {"values": [float(np.sum(body.get("values", 0.0)))]}


class Computes:
    """A loop in Python that needs ``seconds`` of CPU time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def predict(self, body: dict[str, Any]) -> Any:
        end = time.thread_time() + self._seconds
        total = 0.0
        while time.thread_time() < end:
            total += 1.0
        return {"values": [float(len(body["values"]))]}


class Compresses:
    """The compressed size of so many ``kilobytes``: native code on one thread."""

    def __init__(self, kilobytes: int) -> None:
        self._data = np.random.default_rng(0).integers(0, 32, kilobytes * 1_000, np.uint8).tobytes()

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": [float(len(zlib.compress(self._data)))]}


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


class Forest:
    """A random forest of scikit-learn with ``trees`` and ``jobs`` threads. ``lazy``: the first request trains it."""

    def __init__(self, trees: int, jobs: int = 1, lazy: bool = False) -> None:
        self._trees, self._jobs = trees, jobs
        self._model: Any = None if lazy else self._trained()
        self._lock = threading.Lock()

    def _trained(self) -> Any:
        from sklearn.datasets import load_digits
        from sklearn.ensemble import RandomForestClassifier

        rows, labels = load_digits(return_X_y=True)
        return RandomForestClassifier(self._trees, n_jobs=self._jobs, random_state=0).fit(rows, labels)

    def predict(self, body: dict[str, Any]) -> Any:
        with self._lock:
            if self._model is None:
                self._model = self._trained()
        rows = np.resize(np.array(body["values"], float), (1, 64))
        return {"values": self._model.predict_proba(rows)[0].tolist()}


class Compiles:
    """A compiler that needs ``seconds`` for each new length of the input."""

    def __init__(self, seconds: float) -> None:
        self._compiler = Computes(seconds)
        self._seen: set[int] = set()
        self._lock = threading.Lock()

    def predict(self, body: dict[str, Any]) -> Any:
        length = len(body["values"])
        with self._lock:
            if length not in self._seen:
                self._compiler.predict(body)
                self._seen.add(length)
        return {"values": [float(length)]}


class Spinner:
    """A thread beside the model that polls without a pause, in Python; the model needs ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._model = Computes(seconds)
        threading.Thread(target=self._poll, daemon=True).start()

    @staticmethod
    def _poll() -> None:
        while True:
            pass

    def predict(self, body: dict[str, Any]) -> Any:
        return self._model.predict(body)


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


class Floats:
    """An answer of ``count`` numbers with all their digits."""

    def __init__(self, count: int) -> None:
        self._values = np.random.default_rng(0).standard_normal(count).tolist()

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": self._values}


class Weights:
    """A dense layer whose float32 weights take ``megabytes``; they are read once for every request."""

    def __init__(self, megabytes: int) -> None:
        self._weights = np.ones((megabytes * 250, 1_000), np.float32)

    def predict(self, body: dict[str, Any]) -> Any:
        row = np.resize(np.array(body["values"], np.float32), 1_000)
        return {"values": (self._weights @ row)[:10].tolist()}


class Session:
    """An ONNX file in a session of its own with ``threads``, on an image of zeros with this ``side``."""

    def __init__(self, path: str, side: int, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._rows = {self._session.get_inputs()[0].name: np.zeros((1, 3, side, side), np.float32)}

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": self._session.run(None, self._rows)[0].ravel()[:10].tolist()}


class Distance:
    """The edit distance of the text to itself reversed: its time grows with the square of the length."""

    def predict(self, body: dict[str, Any]) -> Any:
        text = body["text"]
        last = list(range(len(text) + 1))
        for row, left in enumerate(text, 1):
            current = [row]
            for column, right in enumerate(reversed(text), 1):
                current.append(min(last[column] + 1, current[-1] + 1, last[column - 1] + (left != right)))
            last = current
        return {"values": [last[-1]]}


KINDS: dict[str, Any] = {
    kind.__name__.lower(): kind
    for kind in (
        *(Light, Computes, Compresses, Downstream, Forest, Compiles, Spinner, Collects, Reloads),
        *(Floats, Weights, Session, Distance),
    )
}
SHARED: dict[str, Any] = {"device": Device, "database": Database}
"""Kinds with a file that all processes share."""


def make(code: dict[str, Any], folder: Path) -> Any:
    """A model of ``code["kind"]`` with the other entries as parameters. ``folder``: for what processes share."""
    given = {name: value for name, value in code.items() if name != "kind"}
    kind = code["kind"]
    return SHARED[kind](folder=folder, **given) if kind in SHARED else KINDS[kind](**given)
