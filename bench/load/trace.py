"""The trace: instants of requests and their payloads, one line of JSON for each request.

The first line is the header, ``{"schema": "slipway.bench.trace/1", "duration_s": 60.0, "source": "access.log"}``. Every
other line is one request: ``{"at_s": 0.0131}``, seconds after the start. Optional keys: ``bytes`` (of its body),
``key`` (a digest of the body, so that a trace holds no data) and ``payload`` (the name of the payload to send). Lines
may come in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..errors import Unusable

SCHEMA = "slipway.bench.trace/1"
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """``offsets_ns``: int64 [n], ascending, from 0. Beside them, in the same order: ``bytes_in``, the size of each body
    (-1: unknown), ``keys`` and ``payloads`` (None: unknown)."""

    source: str
    duration_s: float
    offsets_ns: NDArray[np.int64]
    bytes_in: NDArray[np.int64]
    keys: tuple[str | None, ...]
    payloads: tuple[str | None, ...]

    @property
    def rate_per_s(self) -> float:
        return len(self.offsets_ns) / self.duration_s


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace, at seconds of any clock."""

    at_s: float
    bytes: int | None = None
    key: str | None = None
    payload: str | None = None


def make(source: str, arrivals: list[Arrival]) -> Trace:
    """A trace from arrivals in any order; the first is at 0. Raises Unusable for fewer than two."""
    if len(arrivals) < 2:
        raise Unusable(f"{source} holds {len(arrivals)} requests: a trace needs two")
    ordered = sorted(arrivals, key=_instant)
    start_s = ordered[0].at_s
    span_s = ordered[-1].at_s - start_s
    if not span_s > 0:
        raise Unusable(f"all {len(ordered)} requests of {source} came at the same instant: that is no trace")
    # One mean gap longer than the last arrival, so that the rate is that of the gaps.
    return _assemble(source, ordered, start_s, span_s * len(ordered) / (len(ordered) - 1))


def faster(trace: Trace, factor: float) -> Trace:
    """The same requests ``factor`` times as fast."""
    offsets = np.round(trace.offsets_ns / factor).astype(np.int64)
    return Trace(trace.source, trace.duration_s / factor, offsets, trace.bytes_in, trace.keys, trace.payloads)


def write(path: Path, trace: Trace) -> None:
    """Write a trace. Raises Unusable when the file cannot be written."""
    lines = [orjson.dumps({"schema": SCHEMA, "duration_s": trace.duration_s, "source": trace.source})]
    rows = zip(trace.offsets_ns.tolist(), trace.bytes_in.tolist(), trace.keys, trace.payloads, strict=True)
    for offset_ns, size, key, payload in rows:
        known = {"at_s": offset_ns / NS_PER_S, "bytes": None if size < 0 else size, "key": key, "payload": payload}
        lines.append(orjson.dumps({name: value for name, value in known.items() if value is not None}))
    try:
        path.write_bytes(b"\n".join([*lines, b""]))
    except OSError as error:
        raise Unusable(f"cannot write the trace {str(path)!r}: {error.strerror or error}") from error


def read(path: Path) -> Trace:
    """Read a trace. Raises Unusable with the line that is wrong."""
    try:
        header, *lines = path.read_bytes().splitlines() or [b""]
    except OSError as error:
        raise Unusable(f"cannot read the trace {str(path)!r}: {error.strerror or error}") from error
    document = _object(path, 1, header)
    duration_s = document.get("duration_s")
    if document.get("schema") != SCHEMA or not isinstance(duration_s, int | float) or not 0 < duration_s < math.inf:
        raise Unusable(f"{str(path)!r} is no trace: its first line must have schema {SCHEMA} and duration_s")
    arrivals = [_arrival(path, number, line) for number, line in enumerate(lines, 2) if line.strip()]
    if not arrivals:
        raise Unusable(f"the trace {str(path)!r} holds no request")
    return _assemble(str(document.get("source", path.name)), sorted(arrivals, key=_instant), 0.0, float(duration_s))


def _assemble(source: str, ordered: list[Arrival], start_s: float, duration_s: float) -> Trace:
    return Trace(
        source=source,
        duration_s=duration_s,
        offsets_ns=np.array([round((one.at_s - start_s) * NS_PER_S) for one in ordered], dtype=np.int64),
        bytes_in=np.array([-1 if one.bytes is None else one.bytes for one in ordered], dtype=np.int64),
        keys=tuple(one.key for one in ordered),
        payloads=tuple(one.payload for one in ordered),
    )


def _instant(arrival: Arrival) -> float:
    return arrival.at_s


def _arrival(path: Path, number: int, line: bytes) -> Arrival:
    document = _object(path, number, line)
    at_s, size = document.get("at_s"), document.get("bytes")
    if not isinstance(at_s, int | float) or not 0 <= at_s < math.inf:
        raise Unusable(f"{str(path)!r}, line {number}: at_s must be seconds after the start, not {at_s!r}")
    if size is not None and not isinstance(size, int):
        raise Unusable(f"{str(path)!r}, line {number}: bytes must be a whole number, not {size!r}")
    return Arrival(float(at_s), size, _text(document.get("key")), _text(document.get("payload")))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except ValueError as error:
        raise Unusable(f"{str(path)!r}, line {number} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Unusable(f"{str(path)!r}, line {number} is no JSON object")
    return found
