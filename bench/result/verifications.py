"""The log of verifications beside a record: for each tried change, the forecast and the observation."""

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
"""A forecast of p99 has failed if the observation lies outside its interval and is off by more than this share."""


@dataclass(frozen=True, slots=True)
class Verification:
    """One change that was tried. ``kind``: ``slowdown`` for injected time, else ``Change.kind``.

    ``change``: in words. ``forecast`` and ``observed``: the ratio to the unchanged server, by percentile.
    """

    created: str
    kind: str
    change: str
    forecast: Mapping[str, Ratio]
    observed: Mapping[str, Ratio]
    schema: str = field(default=SCHEMA)

    def error(self, name: str) -> float:
        """The error of a percentile: the natural logarithm of the observed ratio over the forecast ratio."""
        return math.log(self.observed[name].value / self.forecast[name].value)

    @property
    def held(self) -> bool:
        """Whether the forecast of p99 was right: within its interval, or off by at most ``MOST_ERROR``."""
        forecast, observed = self.forecast["p99"], self.observed["p99"]
        return forecast.low <= observed.value <= forecast.high or abs(math.exp(self.error("p99")) - 1) <= MOST_ERROR


def path_of(record: Path) -> Path:
    """The path of the log: ``run.verified.jsonl`` for the record ``run.json``."""
    return record.with_suffix(".verified.jsonl")


def read(record: Path) -> list[Verification]:
    """All verifications of a record, the oldest first; empty without a log. Raises Unusable for an unreadable log."""
    path = path_of(record)
    if not path.exists():
        return []
    try:
        return [_read_line(line) for line in path.read_bytes().splitlines() if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(
            f"cannot read the log of verifications {str(path)!r}: {error}; mend it, or move it away"
        ) from error


def append(record: Path, verification: Verification) -> None:
    """Add a verification to the log of a record. Raises Unusable if the file cannot be written."""
    path = path_of(record)
    try:
        with path.open("ab") as file:
            file.write(orjson.dumps(verification, option=orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise Unusable(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def errors(log: list[Verification]) -> list[dict[str, float]]:
    """The errors of each verification by percentile, which widen later intervals."""
    return [{name: one.error(name) for name in one.forecast if name in one.observed} for one in log]


def _read_line(line: bytes) -> Verification:
    document = orjson.loads(line)
    if document["schema"] != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    ratios = {
        side: {name: Ratio(**ratio) for name, ratio in document[side].items()} for side in ("forecast", "observed")
    }
    return Verification(
        document["created"], document["kind"], document["change"], ratios["forecast"], ratios["observed"]
    )
