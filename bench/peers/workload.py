"""The workload: the models that all peers serve, the row of each request, and the expected answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..load import probe, target
from .peer import Deployment, Peer, Row
from .process import Failed

WIDTH = 64
TOLERANCE = 1e-4
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Model:
    """A model. ``write``: writes its ONNX file (``x`` float32 [batch, 64] to ``y`` float32 [batch, 3])."""

    name: str
    about: str
    write: Callable[[Path], None]


def _perceptron(path: Path) -> None:
    from . import networks  # imported here, because other commands run without onnx

    networks.perceptron(path)


def _convolutions(path: Path) -> None:
    from . import networks

    networks.convolutions(path)


MODELS = (
    Model("perceptron", "64-128-128-3, about 10 us a row: the cost of the server itself", _perceptron),
    Model("convolutions", "12 layers, about 2 ms a row on one core: the cost of the model", _convolutions),
)


@dataclass(frozen=True, slots=True)
class WrittenModel:
    """A model on disk. ``expected``: the output for ``row`` that every server must return."""

    name: str
    file: Path
    expected: Row


def write(model: Model, folder: Path) -> WrittenModel:
    """Write the model into the folder and compute the expected answer."""
    file = folder / f"{model.name}.onnx"
    model.write(file)
    return WrittenModel(model.name, file, expected(file))


def row() -> Row:
    """The input row of all requests: 64 numbers that float32 and JSON represent exactly."""
    return [(index * 37 % WIDTH) / WIDTH - 0.5 for index in range(WIDTH)]


def expected(model: Path) -> Row:
    """The model's output for ``row``, from ONNX Runtime in this process."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    answer = session.run(None, {"x": np.array([row()], np.float32)})[0]
    return [float(one) for one in answer[0]]


def payload(peer: Peer) -> bytes:
    """The body of a request to this peer."""
    return json.dumps(peer.body(row()), separators=(",", ":")).encode()


def check(peer: Peer, deployment: Deployment, expected: Row) -> None:
    """Send one request and compare the response with ``expected``.

    Raises Failed without a response, and for a wrong one.
    """
    server = target.parse(peer.url(deployment))
    try:
        status, body = probe.ask(server, server.path, payload(peer), timeout_s=TIMEOUT_S)
    except OSError as error:
        raise Failed(f"it did not answer: {error or type(error).__name__}") from error
    if status != 200:
        raise Failed(f"it answered {status}: {body[:200].decode('utf-8', 'replace')}")
    try:
        answer = peer.answer(json.loads(body))
    except (ValueError, LookupError, TypeError) as error:
        raise Failed(f"its answer cannot be read: {body[:200].decode('utf-8', 'replace')}") from error
    is_close = [
        math.isclose(actual, wanted, rel_tol=0, abs_tol=TOLERANCE)
        for actual, wanted in zip(answer, expected, strict=False)
    ]
    if len(answer) != len(expected) or not all(is_close):
        raise Failed(f"its answer is wrong: {answer} instead of {expected}")
