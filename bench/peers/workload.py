"""The workload: the models that all peers serve, the row that they are asked, and its right answer."""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from .peer import Peer, Place, Row
from .process import Failed

WIDTH = 64
TOLERANCE = 1e-4
ASK_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Model:
    """A model by name; ``write`` makes its ONNX file, from ``x`` float32 [batch, 64] to ``y`` float32 [batch, 3]."""

    name: str
    about: str
    write: Callable[[Path], None]


def _perceptron(path: Path) -> None:
    from tests.benchmarks.server import networks  # needs onnx, which the other commands of bench do not

    networks.perceptron(path)


def _convolutions(path: Path) -> None:
    from tests.benchmarks.server import networks

    networks.convolutions(path)


MODELS = (
    Model("perceptron", "64-128-128-3, about 10 us a row: what the server itself costs", _perceptron),
    Model("convolutions", "12 layers, about 2 ms a row on one core: the model is the work", _convolutions),
)


def row() -> Row:
    """The row that is asked: 64 numbers that JSON and float32 agree on."""
    return [(index * 37 % WIDTH) / WIDTH - 0.5 for index in range(WIDTH)]


def expected(model: Path) -> Row:
    """The model's own answer to ``row``, from a session of ONNX Runtime in this process."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    answer = session.run(None, {"x": np.array([row()], np.float32)})[0]
    return [float(one) for one in answer[0]]


def payload(peer: Peer) -> bytes:
    """The row as this peer is asked it."""
    return json.dumps(peer.body(row()), separators=(",", ":")).encode()


def check(peer: Peer, place: Place, right: Row) -> None:
    """Ask once, and compare. Raises Failed with what came instead of the right answer."""
    status, body = _ask(peer.url(place), payload(peer))
    if status != http.HTTPStatus.OK:
        raise Failed(f"it answered {status}: {body[:200].decode('utf-8', 'replace')}")
    try:
        answer = peer.answer(json.loads(body))
    except (ValueError, LookupError, TypeError) as error:
        raise Failed(f"its answer cannot be read: {body[:200].decode('utf-8', 'replace')}") from error
    close = [math.isclose(one, other, rel_tol=0, abs_tol=TOLERANCE) for one, other in zip(answer, right, strict=False)]
    if len(answer) != len(right) or not all(close):
        raise Failed(f"its answer is wrong: {answer} instead of {right}")


def _ask(url: str, body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=ASK_WITHIN_S)
    try:
        connection.request("POST", parts.path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"it did not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
