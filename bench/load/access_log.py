"""Access logs: the arrivals in the log of a server or proxy, for a trace.

Three formats are read: Slipway's own, the combined format of nginx and Apache, and JSON objects with a time. Other
lines are counted and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from .trace import Arrival

_SLIPWAY = re.compile(
    r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) \S+ slipway\.access: "
    r"(?P<method>[A-Z]+) (?P<path>\S+) \d{3} \d+ bytes (?P<took_ms>[\d.]+) ms"
)
_COMBINED = re.compile(r'\S+ \S+ \S+ \[(?P<at>[^\]]+)\] "(?P<method>[A-Z]+) (?P<path>\S+)[^"]*" \d{3}')
TIME_KEYS = ("time", "timestamp", "ts", "@timestamp", "msec")
PATH_KEYS = ("path", "uri", "request_uri", "url")


@dataclass(frozen=True, slots=True)
class Reading:
    """The arrivals of a log and the number of lines that were skipped.

    ``coarse``: some instants were whole seconds; the arrivals of such a second are spread over it at random.
    """

    arrivals: list[Arrival]
    skipped: int
    coarse: bool


def read(lines: Iterable[str], path: str | None = None, seed: int = 1) -> Reading:
    """The requests of a log; with ``path``, only those whose path begins with it. Unreadable lines are skipped."""
    random = np.random.default_rng(seed)
    arrivals, skipped, coarse = [], 0, False
    for line in lines:
        found = _slipway(line) or _combined(line) or _json(line)
        if found is None:
            skipped += bool(line.strip())
            continue
        at_s, place, whole = found
        if path is not None and not place.startswith(path):
            continue
        coarse |= whole
        arrivals.append(Arrival(at_s + float(random.random()) if whole else at_s))
    return Reading(arrivals, skipped, coarse)


def _slipway(line: str) -> tuple[float, str, bool] | None:
    found = _SLIPWAY.search(line)
    if found is None:
        return None
    # The line is written after the response: the request came earlier by its latency.
    at = datetime.strptime(found["at"] + "000 +0000", "%Y-%m-%d %H:%M:%S,%f %z")
    return at.timestamp() - float(found["took_ms"]) / 1e3, found["path"], False


def _combined(line: str) -> tuple[float, str, bool] | None:
    found = _COMBINED.match(line)
    if found is None:
        return None
    try:
        return datetime.strptime(found["at"], "%d/%b/%Y:%H:%M:%S %z").timestamp(), found["path"], True
    except ValueError:
        return None


def _json(line: str) -> tuple[float, str, bool] | None:
    try:
        entry = orjson.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    at: Any = next((entry[key] for key in TIME_KEYS if key in entry), None)
    place = next((str(entry[key]) for key in PATH_KEYS if key in entry), "")
    try:
        seconds = datetime.fromisoformat(at).timestamp() if isinstance(at, str) and ":" in at else float(at)
    except (TypeError, ValueError):
        return None
    return seconds, place, False
