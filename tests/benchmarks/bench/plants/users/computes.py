"""Models of users that compute, in Python or in native code."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
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


class Hashes:
    """A password hash of so many thousand ``rounds``: native code on one thread, without the interpreter's lock."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds * 1_000

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": [float(hashlib.pbkdf2_hmac("sha256", b"password", b"salt", self._rounds)[0])]}


class Sorts:
    """A sorted list of so many thousand numbers: native code that keeps the interpreter's lock."""

    def __init__(self, thousands: int) -> None:
        self._values = np.random.default_rng(0).standard_normal(thousands * 1_000).tolist()

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": sorted(self._values)[:1]}


class Child:
    """A program that is started for each request, and needs ``seconds`` of CPU time beside its start."""

    def __init__(self, seconds: float) -> None:
        program = f"import time\nwhile time.process_time() < {seconds}: pass\nprint(1.0)"
        self._command = [sys.executable, "-S", "-E", "-c", program]

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": [float(subprocess.run(self._command, capture_output=True, check=True).stdout)]}


class Pool:
    """A pool with one process, which hashes so many thousand ``rounds`` as above."""

    def __init__(self, rounds: int) -> None:
        self._pool, self._rounds = ProcessPoolExecutor(1), rounds * 1_000
        self._pool.submit(os.getpid).result()

    def predict(self, _body: dict[str, Any]) -> Any:
        hashed = self._pool.submit(hashlib.pbkdf2_hmac, "sha256", b"password", b"salt", self._rounds)
        return {"values": [float(hashed.result()[0])]}


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


class Torch:
    """A layer of torch with ``side`` inputs and outputs on ``rows`` rows, with ``threads``. The first request imports
    torch."""

    def __init__(self, side: int, rows: int, threads: int) -> None:
        self._sizes, self._threads = (rows, side, side), threads
        self._layer: Any = None
        self._lock = threading.Lock()

    def predict(self, _body: dict[str, Any]) -> Any:
        import torch

        with self._lock:
            if self._layer is None:
                torch.set_num_threads(self._threads)
                rows, side, width = self._sizes
                self._layer, self._rows = torch.ones(side, width), torch.ones(rows, side)
        return {"values": (self._rows @ self._layer).ravel()[:3].tolist()}


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


class Solves:
    """The singular values of a matrix with a row and a column for each number: cubic in the length."""

    def predict(self, body: dict[str, Any]) -> Any:
        values = np.array(body["values"])
        return {"values": np.linalg.svd(np.sin(np.outer(values, values)), compute_uv=False)[:3].tolist()}


class Table:
    """The sum of a table in CSV, which pandas reads."""

    def __init__(self) -> None:
        import pandas

        self._pandas = pandas

    def predict(self, body: dict[str, Any]) -> Any:
        return {"values": [float(self._pandas.read_csv(io.StringIO(body["csv"])).to_numpy().sum())]}


class Picture:
    """The mean of a picture in base64, which Pillow reads."""

    def predict(self, body: dict[str, Any]) -> Any:
        from PIL import Image

        with Image.open(io.BytesIO(base64.b64decode(body["image"]))) as image:
            return {"values": [float(np.asarray(image).mean())]}
