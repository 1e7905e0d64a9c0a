"""The log of verifications beside a record: what was forecast, what was observed, and the error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from ..errors import Unusable
from ..explain.ratio import Ratio

SCHEMA = "slipway.bench.verification/1"
SLOWDOWN = "slowdown"
MOST_ERROR = 0.15
"""A forecast of p99 that is wrong by more than this, and by more than its interval, has failed."""


@dataclass(frozen=True, slots=True)
class Verification:
    """One change that was tried. ``kind``: ``slowdown`` for injected time, else the name of the change's first part.

    ``forecast`` and ``observed``: by percentile.
    """

    created: str
    kind: str
    change: str
    forecast: Mapping[str, Ratio]
    observed: Mapping[str, Ratio]
    schema: str = field(default=SCHEMA)

    def error(self, name: str) -> float:
        """The logarithm of observed over forecast."""
        return math.log(self.observed[name].value / self.forecast[name].value)

    @property
    def held(self) -> bool:
        """Whether the p99 was predicted: within its interval, or within ``MOST_ERROR``."""
        one, other = self.forecast["p99"], self.observed["p99"]
        return one.low <= other.value <= one.high or abs(math.exp(self.error("p99")) - 1) <= MOST_ERROR


def path_of(record: Path) -> Path:
    """The log of a record: ``run.json`` has ``run.verified.jsonl``."""
    return record.with_suffix(".verified.jsonl")


def read(record: Path) -> list[Verification]:
    """All verifications of a record, the oldest first; none without a log. Raises Unusable for another file."""
    path = path_of(record)
    if not path.exists():
        return []
    try:
        return [_read_line(line) for line in path.read_bytes().splitlines() if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"cannot read the log of verifications {str(path)!r}: {error}") from error


def append(record: Path, one: Verification) -> None:
    """Add a verification to the log of a record. Raises Unusable if the file cannot be written."""
    path = path_of(record)
    try:
        with path.open("ab") as file:
            file.write(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise Unusable(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def errors(found: list[Verification]) -> list[dict[str, float]]:
    """The errors of each verification by percentile, which widen later intervals."""
    return [{name: one.error(name) for name in one.forecast if name in one.observed} for one in found]


def _read_line(line: bytes) -> Verification:
    found = orjson.loads(line)
    if found["schema"] != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    ratios = {side: {name: Ratio(**ratio) for name, ratio in found[side].items()} for side in ("forecast", "observed")}
    return Verification(found["created"], found["kind"], found["change"], ratios["forecast"], ratios["observed"])
