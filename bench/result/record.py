"""The record: everything known of one run, as one JSON file and its raw rows beside it.

Later commands (compare, explain, plan) read records, so a field keeps its name and unit within a schema. Sections of
the schema that no command measures yet (verdicts, whatif, slo, plan) are absent rather than empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..errors import Unusable
from ..explain.explanation import Explanation
from ..explain.stages import Band
from ..load.calibration import Calibration
from ..load.measurements import COLUMNS
from ..observe.environment import Environment
from ..observe.link import Link
from ..observe.memory_bandwidth import MemoryBandwidth
from ..observe.timeline import ServerTimeline
from .statistics import Percentile
from .validity import Validity

SCHEMA = "slipway.bench.run/2"
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """What was loaded. ``metadata``: the model's own, where the path names one."""

    url: str
    model: str | None
    metadata: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class PayloadRecord:
    """A body, or a set of them: then ``bytes`` is the mean by weight, and the column ``payload`` counts from 0."""

    name: str
    content_type: str
    sha256: str
    bytes: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """How it was loaded. ``mode``: ``open`` (arrivals and rate are set) or ``closed`` (users is set)."""

    mode: str
    arrivals: str | None
    rate_per_s: float | None
    users: int | None
    seed: int
    duration_s: float
    warmup_s: float
    timeout_s: float
    connections: int
    carrier: str
    payload: PayloadRecord
    payloads: tuple[PayloadRecord, ...] = ()
    engine: str = "fast"
    processes: int = 1


@dataclass(frozen=True, slots=True)
class RepeatRecord:
    """One repetition: requests intended in [start_s, end_s) after the start of the first one were measured."""

    number: int
    seed: int
    start_s: float
    end_s: float
    requests: int


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """What was measured, from the first repeat's start to the last one's end; between them lie the warm-ups.

    ``method``: how the warm-up was cut. ``steady``: False when no steady state was found, None when nobody looked.
    ``requests``: all that were measured.
    """

    method: str
    start_s: float
    end_s: float
    requests: int
    steady: bool | None = None
    repeats: tuple[RepeatRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class LatencyRecord:
    """Percentiles of requests answered with success, and of time-outs as at least the limit.

    ``corrected``: from the intended instant. ``uncorrected``: from the actual send, as closed-loop tools report. Those
    of an invalid run are in ``untrusted`` instead, so that a script that forgets ``validity`` finds nothing.
    """

    corrected: dict[str, Percentile] | None
    uncorrected: dict[str, Percentile] | None
    untrusted: dict[str, Percentile] | None


@dataclass(frozen=True, slots=True)
class ThroughputRecord:
    """Requests per second in the window: ``offered`` (intended), ``sent``, ``goodput`` (answered with success)."""

    offered_per_s: float | None
    sent_per_s: float
    goodput_per_s: float


@dataclass(frozen=True, slots=True)
class ObjectiveRecord:
    """Whether latency stays below ``limit_ms`` at ``quantile``.

    ``state``: ``met`` or ``missed`` when the whole interval says so, ``undecided`` when it holds the limit, ``unknown``
    when there were too few requests or the run is invalid. ``good_share``: of all requests of the window, errors
    included, those answered with success within the limit; ``goodput_per_s``: how many per second that were.
    """

    quantile: float
    limit_ms: float
    state: str
    good_share: float
    goodput_per_s: float


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """One kind of failure. ``code`` and ``message`` are the server's own words in the first of them, if it had any."""

    kind: str
    count: int
    share: float
    first_index: int
    code: str | None
    message: str


@dataclass(frozen=True, slots=True)
class StagesRecord:
    """Mean accounts of all requests and of those around each percentile; in every band the terms add up to the total.

    ``server``: whether the server told its stages. ``unaccounted``: answers without them. ``contradictions``: requests
    of which the server claims more time than passed.
    """

    server: bool
    requests: int
    unaccounted: int
    contradictions: int
    bands: dict[str, Band]


@dataclass(frozen=True, slots=True)
class TailRecord:
    """What the band around p99 has on top of the band around p50: ms per term, adding up to ``gap_ms``."""

    band: tuple[float, float]
    gap_ms: float
    contributions_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. ``partial``: Ctrl-C ended it, with ``abandoned`` requests unanswered. ``raw``: the file of the rows.
    ``host``: what was seen beside the load; ``explanation``: all that the rows and the host say of the latency.
    ``link`` and ``memory``: how fast those are, where that is known."""

    id: str
    created: str
    tool: str
    command: str
    partial: bool
    abandoned: int
    target: TargetRecord
    load: LoadRecord
    env: Environment
    calibration: Calibration | None
    validity: Validity
    window: WindowRecord
    latency: LatencyRecord
    throughput: ThroughputRecord
    errors: tuple[ErrorRecord, ...]
    stages: StagesRecord
    tail: TailRecord | None
    sentence: str
    batches: dict[str, int]
    server: dict[str, dict[str, float]]
    objective: ObjectiveRecord | None = None
    host: ServerTimeline | None = None
    explanation: Explanation | None = None
    link: Link | None = None
    memory: MemoryBandwidth | None = None
    raw: str | None = None
    schema: str = field(default=SCHEMA)


def to_json(record: RunRecord) -> bytes:
    """The record as indented UTF-8 JSON."""
    return orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def measured(columns: dict[str, NDArray[np.int64]], repeats: Sequence[RepeatRecord]) -> NDArray[np.bool_]:
    """bool [n]: the rows inside the windows, as opposed to warm-ups."""
    inside = np.zeros(len(columns["due_ns"]), dtype=np.bool_)
    for one in repeats:
        inside |= (columns["repeat"] == one.number) & (columns["due_ns"] >= round(one.start_s * NS_PER_S))
    return inside


def repeats_of(found: dict[str, Any]) -> tuple[RepeatRecord, ...]:
    """The repeats of a record that was read from its file."""
    return tuple(RepeatRecord(**one) for one in found["window"]["repeats"])


def raw_path(path: Path) -> Path:
    """Where the raw rows of the record at ``path`` are."""
    return path.with_suffix(".npz")


def write(path: Path, record: RunRecord, columns: dict[str, NDArray[np.int64]]) -> None:
    """Write the record, and the raw rows (warm-up included) beside it. Raises Unusable when the disk refuses."""
    try:
        with raw_path(path).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{name: columns[name] for name in COLUMNS})
        path.write_bytes(to_json(replace(record, raw=raw_path(path).name)))
    except OSError as error:
        raise Unusable(f"cannot write the result to {str(path)!r}: {error.strerror or error}") from error


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.int64]]]:
    """A record and its raw rows (int64 [n] by column). Raises Unusable for what is no record of this schema."""
    try:
        found = orjson.loads(path.read_bytes())
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise Unusable(f"{str(path)!r} is no result of this version of bench: its schema is not {SCHEMA}")
        with np.load(path.with_name(found["raw"] or raw_path(path).name), allow_pickle=False) as rows:
            return found, {name: rows[name] for name in COLUMNS}
    except (OSError, ValueError, KeyError) as error:
        raise Unusable(f"cannot read the result {str(path)!r}: {error}") from error
