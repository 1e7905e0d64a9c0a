"""The record of one run: a typed JSON file, and a file with its raw rows.

``RunRecord`` serves the command that writes the file, and every command that reads it. A field keeps its name and its
unit within one schema.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..errors import Unusable
from ..explain.explanation import Explanation
from ..explain.stages import Band
from ..explain.verdict import Verdict
from ..load.burst import Burst
from ..load.calibration import Calibration
from ..load.measurements import COLUMNS
from ..load.server_timing import ABOUT, MISSING
from ..observe.environment import Environment
from ..observe.link import Link
from ..observe.memory_bandwidth import MemoryBandwidth
from ..observe.timeline import ServerTimeline, Span
from .statistics import Percentile
from .validity import Validity

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA = "slipway.bench.run/2"
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """The target of the load. ``metadata``: the model's own, if the path names a model."""

    url: str
    model: str | None
    metadata: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class PayloadRecord:
    """One body, or a set of bodies with their weighted mean ``bytes``. The column ``payload`` counts bodies from 0."""

    name: str
    content_type: str
    sha256: str
    bytes: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """The load. ``mode``: ``open`` (``arrivals`` and ``rate_per_s`` are set) or ``closed`` (``users`` is set)."""

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
    """One repeat. Its measured requests are those intended in [start_s, end_s), after the start of the first repeat."""

    number: int
    seed: int
    start_s: float
    end_s: float
    requests: int


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """The measured time, from the start of the first repeat to the end of the last one; warm-ups lie between repeats.

    ``method``: of the cut of the warm-up. ``steady``: False without a steady state, None if the method does not test
    it. ``requests``: the number of measured requests.
    """

    method: str
    start_s: float
    end_s: float
    requests: int
    steady: bool | None = None
    repeats: tuple[RepeatRecord, ...] = ()

    @property
    def stretches(self) -> tuple[Span, ...]:
        """The measured time, one stretch per repeat, in seconds after the start of the load."""
        return tuple((one.start_s, one.end_s) for one in self.repeats)

    @property
    def seconds(self) -> float:
        """The measured time in all; warm-ups between repeats are left out."""
        return sum(one.end_s - one.start_s for one in self.repeats)


@dataclass(frozen=True, slots=True)
class LatencyRecord:
    """Percentiles over successful requests, and over time-outs, which count as at least the limit.

    ``corrected``: from the intended instant. ``uncorrected``: from the actual send, as closed-loop tools report it.
    ``untrusted``: those that ``validity`` refuses, apart from the others, so that a script that ignores it does not use
    them. The first two are None if all are refused.
    """

    corrected: dict[str, Percentile] | None
    uncorrected: dict[str, Percentile] | None
    untrusted: dict[str, Percentile] | None


@dataclass(frozen=True, slots=True)
class ThroughputRecord:
    """Requests per second of the measured time: offered (intended), sent, and goodput (successful)."""

    offered_per_s: float | None
    sent_per_s: float
    goodput_per_s: float


@dataclass(frozen=True, slots=True)
class ObjectiveRecord:
    """Whether latency stays below ``limit_ms`` at ``quantile``.

    ``state``: ``met`` or ``missed`` by the whole interval, ``undecided`` if the interval contains the limit,
    ``unknown`` with too few requests or an invalid run. ``good_share``: the successful requests within the limit, as a
    share of all requests of the window; ``goodput_per_s``: the same requests per second.
    """

    quantile: float
    limit_ms: float
    state: str
    good_share: float
    goodput_per_s: float


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """What the load cost the generator and its connections, warm-ups included.

    ``connections``: opened in all for ``requests``. ``run_delay``: the share of the time in which the generator was
    ready and waited for a core. ``resent``: TCP segments that it sent again. ``json_ms``: the time in which Python's
    json reads the body and writes a response of its size here. None where one is unknown.
    """

    connections: int
    requests: int
    run_delay: float | None
    resent: int | None
    json_ms: float | None


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """One kind of failure. ``code`` and ``message``: from the body of its first response, if there was one."""

    kind: str
    count: int
    share: float
    first_index: int
    code: str | None
    message: str


@dataclass(frozen=True, slots=True)
class StagesRecord:
    """Mean accounts of all requests and of those around each percentile; in every band the terms add up to the total.

    ``server``: whether the server sent stage times. ``unaccounted``: responses without them. ``contradictions``:
    requests with stage times above their latency.
    """

    server: bool
    requests: int
    unaccounted: int
    contradictions: int
    bands: dict[str, Band]


@dataclass(frozen=True, slots=True)
class TailRecord:
    """The difference between the bands around p99 and p50: ms per term, with the sum ``gap_ms``."""

    band: tuple[float, float]
    gap_ms: float
    contributions_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run.

    ``partial``: Ctrl-C ended it, with ``abandoned`` requests in flight. ``host``: the server timeline, measured beside
    the load. ``link`` and ``memory``: their bandwidth, if it is known. ``client`` and ``verdict``:
    None in an older record. ``burst``: the burst probe, if one was made. ``testable``: names of the
    causes that an experiment on this server can test; None if that is unknown. ``raw``: the file with the rows.
    """

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
    client: ClientRecord | None = None
    burst: Burst | None = None
    verdict: Verdict | None = None
    testable: tuple[str, ...] | None = None
    raw: str | None = None
    schema: str = field(default=SCHEMA)

    def to_json(self) -> bytes:
        """The record as indented UTF-8 JSON."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @staticmethod
    def from_json(text: bytes) -> RunRecord:
        """The record that ``to_json`` wrote. Raises ValueError for a missing field or a value of another type."""
        return _adapter().validate_json(text)


@functools.cache
def _adapter() -> TypeAdapter[RunRecord]:
    # Imported here: only commands that read a record need it, and the import takes longer than reading one.
    from pydantic import TypeAdapter

    return TypeAdapter(RunRecord)


def measured(columns: dict[str, NDArray[np.int64]], repeats: Sequence[RepeatRecord]) -> NDArray[np.bool_]:
    """bool [n]: the rows of the repeats, without warm-ups."""
    inside = np.zeros(len(columns["due_ns"]), dtype=np.bool_)
    for one in repeats:
        inside |= (columns["repeat"] == one.number) & (columns["due_ns"] >= round(one.start_s * NS_PER_S))
    return inside


def raw_path(path: Path) -> Path:
    """The path of the raw rows of the record at ``path``."""
    return path.with_suffix(".npz")


def write(path: Path, record: RunRecord, columns: dict[str, NDArray[np.int64]]) -> None:
    """Write the record, and its raw rows (warm-ups included) beside it. Raises Unusable if a file cannot be written."""
    try:
        with raw_path(path).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{name: columns[name] for name in COLUMNS})
        path.write_bytes(replace(record, raw=raw_path(path).name).to_json())
    except OSError as error:
        raise Unusable(f"cannot write the result to {str(path)!r}: {error.strerror or error}") from error


def read(path: Path) -> tuple[RunRecord, dict[str, NDArray[np.int64]]]:
    """A record and its raw rows (int64 [n] by column). Raises Unusable if the file is not a record of this schema."""
    try:
        text = path.read_bytes()
        found = orjson.loads(text)
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise Unusable(
                f"{str(path)!r} is not a result of this version of bench: its schema is not {SCHEMA}; measure again"
            )
        record = RunRecord.from_json(text)
        with np.load(path.with_name(record.raw or raw_path(path).name), allow_pickle=False) as rows:
            untold = np.full(len(rows["index"]), MISSING, dtype=np.int64)  # of a record from before these columns
            return record, {name: untold if name in ABOUT and name not in rows else rows[name] for name in COLUMNS}
    except (OSError, ValueError, KeyError) as error:
        raise Unusable(f"cannot read the result {str(path)!r}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """The start of a message: a validation error has a line per field."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return "; ".join(line.strip() for line in text.splitlines()[:3])
