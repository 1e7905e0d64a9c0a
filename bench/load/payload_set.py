"""The payload set: the bodies of a load, their weights, and the seeded choice of a body for each request."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import Unusable
from . import payload
from .payload import Payload

MAX_PAYLOADS = 4096
CYCLE = 65_536
"""Choices drawn ahead for a closed loop, whose number of requests is unknown; they repeat."""
LINES = "lines:"
GENERATE = "generate"

Generate = Callable[[int], Sequence[Payload]]
"""Makes payloads with this number of rows from the model's metadata."""


@dataclass(frozen=True, slots=True)
class PayloadSet:
    """``payloads`` and, of the same length, their ``weights`` (they need not add up to anything)."""

    payloads: tuple[Payload, ...]
    weights: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.payloads[0].name if len(self.payloads) == 1 else f"{len(self.payloads)} payloads"

    @property
    def content_type(self) -> str:
        kinds = sorted({one.content_type for one in self.payloads})
        return ", ".join(kinds)

    @property
    def mean_bytes(self) -> float:
        """Bytes of a request's body on average, by weight."""
        sizes = (weight * len(one.body) for one, weight in zip(self.payloads, self.weights, strict=True))
        return math.fsum(sizes) / math.fsum(self.weights)

    @property
    def sha256(self) -> str:
        """The digest of the only body, or of the digests of all bodies in order."""
        if len(self.payloads) == 1:
            return self.payloads[0].sha256
        return hashlib.sha256("".join(one.sha256 for one in self.payloads).encode()).hexdigest()

    def choices(self, seed: int, count: int) -> NDArray[np.uint16]:
        """uint16 [count]: which payload each request carries. The random stream differs from that of the arrivals."""
        if len(self.payloads) == 1:
            return np.zeros(1, dtype=np.uint16)
        share = np.array(self.weights) / math.fsum(self.weights)
        random = np.random.default_rng([seed, len(self.payloads)])
        return random.choice(len(self.payloads), size=max(count, 1), p=share).astype(np.uint16)

    def named(self, names: Sequence[str | None], otherwise: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """uint16 [n]: the payloads that a trace names, and ``otherwise`` (cyclic) where it names none.

        Raises Unusable for a name that is not in this set.
        """
        position = {one.name: at for at, one in enumerate(self.payloads)}
        chosen = np.resize(otherwise, len(names))
        for at, name in enumerate(names):
            if name is not None:
                if name not in position:
                    raise Unusable(f"the trace asks for the payload {name!r}, which is not among the --payload given")
                chosen[at] = position[name]
        return chosen


def twice_as_long(bodies: PayloadSet) -> PayloadSet:
    """The same JSON bodies with as many bytes of white space behind each."""
    return replace(
        bodies, payloads=tuple(replace(one, body=one.body.ljust(2 * len(one.body))) for one in bodies.payloads)
    )


def single(body: Payload) -> PayloadSet:
    """A set of one."""
    return PayloadSet((body,), (1.0,))


def read(asked: Sequence[str], content_type: str | None, generate: Generate) -> PayloadSet:
    """Read the values of ``--payload``: a file, a folder (a payload per file), ``lines:FILE`` (a payload per line),
    ``generate`` or ``generate@ROWS``. A ``:WEIGHT`` at the end is shared by the payloads of that value.

    Raises Unusable with the value that is wrong.
    """
    payloads: list[Payload] = []
    weights: list[float] = []
    for text in asked:
        source, weight = _weighted(text)
        found = _read_one(source, content_type, generate)
        payloads += found
        weights += [weight / len(found)] * len(found)
    if not payloads:
        raise Unusable("a load needs a payload: give --payload FILE, or --payload generate for a model with metadata")
    if len(payloads) > MAX_PAYLOADS:
        raise Unusable(f"{len(payloads):,} payloads are more than {MAX_PAYLOADS:,}: choose some of them")
    return PayloadSet(tuple(payloads), tuple(weights))


def _weighted(text: str) -> tuple[str, float]:
    source, colon, last = text.rpartition(":")
    if not colon or not source or Path(text).exists() or source == LINES[:-1]:
        return text, 1.0
    try:
        weight = float(last)
    except ValueError:
        return text, 1.0
    if not (math.isfinite(weight) and weight > 0):
        raise Unusable(f"the weight of the payload {source!r} must be a positive number, not {last}")
    return source, weight


def _read_one(source: str, content_type: str | None, generate: Generate) -> list[Payload]:
    name, _, rows = source.partition("@")
    if name == GENERATE:
        if rows and not (rows.isdigit() and int(rows)):
            raise Unusable(f"cannot read {source!r}: write generate, or generate@ROWS with a whole number of rows")
        return list(generate(int(rows or 1)))
    if source.startswith(LINES):
        return _lines(payload.read(Path(source[len(LINES) :]), content_type))
    path = Path(source)
    return _folder(path, content_type) if path.is_dir() else [payload.read(path, content_type)]


def _lines(whole: Payload) -> list[Payload]:
    kind = payload.JSON if whole.content_type == payload.CONTENT_TYPES[".jsonl"] else whole.content_type
    lines = [line for line in whole.body.splitlines() if line.strip()]
    if not lines:
        raise Unusable(f"the payload {whole.name!r} has only empty lines")
    return [Payload(f"{whole.name}:{number}", kind, line) for number, line in enumerate(lines, 1)]


def _folder(path: Path, content_type: str | None) -> list[Payload]:
    files = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
    if not files:
        raise Unusable(f"the folder {str(path)!r} holds no payload")
    if len(files) > MAX_PAYLOADS:
        raise Unusable(f"the folder {str(path)!r} holds {len(files):,} files, more than {MAX_PAYLOADS:,}")
    return [replace(payload.read(one, content_type), name=str(one.relative_to(path))) for one in files]
