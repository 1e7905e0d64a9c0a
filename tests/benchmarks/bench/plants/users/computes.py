"""Models of users that compute, in Python or in native code."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

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


class Counts:
    """The hash of ``Hashes``, and then a counter that is written for a millisecond, behind a lock."""

    def __init__(self, rounds: int) -> None:
        self._model, self._lock = Hashes(rounds), threading.Lock()

    def predict(self, body: dict[str, Any]) -> Any:
        answer = self._model.predict(body)
        with self._lock:
            time.sleep(0.001)
        return answer


class Tokens:
    """The number of tokens of a text, by a tokenizer of byte pairs that is trained at the start."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        random = np.random.default_rng(0)
        self._tokenizer: Any = Tokenizer(models.BPE())
        self._tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        words = ["".join(random.choice(list("abcdefgh"), 8)) for _ in range(500)]
        self._tokenizer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=300, show_progress=False))

    def predict(self, body: dict[str, Any]) -> Any:
        return {"values": [float(len(self._tokenizer.encode(body["text"]).ids))]}


class Doubly:
    """The sum of numbers that come as JSON in a string of the JSON object."""

    def predict(self, body: dict[str, Any]) -> Any:
        return {"values": [sum(json.loads(body["payload"])["values"])]}


class Expands:
    """Ten sums of int8 weights that take ``megabytes``, and that become float32 for every request."""

    def __init__(self, megabytes: int) -> None:
        self._weights = np.ones((megabytes, 1_000_000), np.int8)

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": self._weights.astype(np.float32)[:, :10].sum(axis=1).tolist()[:10]}


class Generates:
    """A decoder: a hash of so many thousand ``rounds`` for each number of the body, one after the other."""

    def __init__(self, rounds: int) -> None:
        self._step = Hashes(rounds)

    def predict(self, body: dict[str, Any]) -> Any:
        return {"values": [self._step.predict(body)["values"][0] for _ in body["values"]]}


class Draws:
    """The mean of so many ``thousands`` of random numbers: native code on one thread."""

    def __init__(self, thousands: int) -> None:
        self._count = thousands * 1_000

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": [float(np.random.default_rng(0).standard_normal(self._count).mean())]}


class Prefetches:
    """The hash of ``Hashes``, beside so many ``threads`` of the same process that hash without a pause."""

    def __init__(self, threads: int, rounds: int) -> None:
        self._model = Hashes(rounds)
        for _ in range(threads):
            threading.Thread(target=self._prefetch, daemon=True).start()

    def _prefetch(self) -> None:
        while True:
            self._model.predict({})

    def predict(self, body: dict[str, Any]) -> Any:
        return self._model.predict(body)


class Halves:
    """Two hashes of so many thousand ``rounds`` for each request, on two threads that all requests share."""

    def __init__(self, rounds: int) -> None:
        self._pool, self._model = ThreadPoolExecutor(2), Hashes(rounds)

    def predict(self, body: dict[str, Any]) -> Any:
        first, _ = self._pool.map(self._model.predict, [body, body])
        return first


class Steps:
    """So many ``steps`` of the session of ``Session`` with one thread, one after the other."""

    def __init__(self, path: str, side: int, steps: int) -> None:
        self._session, self._steps = Session(path, side, 1), steps

    def predict(self, body: dict[str, Any]) -> Any:
        return [self._session.predict(body) for _ in range(self._steps)][-1]


class Packs:
    """The size of so many ``kilobytes`` that LZMA has packed: native code on one thread."""

    def __init__(self, kilobytes: int) -> None:
        self._data = np.random.default_rng(0).integers(0, 32, kilobytes * 1_000, np.uint8).tobytes()

    def predict(self, _body: dict[str, Any]) -> Any:
        return {"values": [float(len(lzma.compress(self._data)))]}


class Loads:
    """The dense layer of ``Weights``, whose file of so many ``megabytes`` is loaded for every request."""

    def __init__(self, megabytes: int, folder: Path) -> None:
        self._path = folder / "layer.npy"
        np.save(self._path, np.ones((megabytes * 250, 1_000), np.float32))
        os.sync()

    def predict(self, body: dict[str, Any]) -> Any:
        row = np.resize(np.array(body["values"], np.float32), 1_000)
        return {"values": (np.load(self._path) @ row)[:10].tolist()}


class Markup:
    """The sum of numbers that come as the elements of an XML document."""

    def predict(self, body: dict[str, Any]) -> Any:
        return {"values": [sum(float(one.text or 0) for one in ElementTree.fromstring(body["document"]))]}
