"""The record of one run: a typed JSON file, and a file with its raw rows.

Within one schema, fields keep their names and units.
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
    """A request body, or a set of bodies with the weighted mean of their ``bytes``.

    ``weight``: relative frequency in the set. The column ``payload`` of the raw rows is the index of a body.
    """

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
    """One repeat. Its measured requests are due in [start_s, end_s), in seconds after the start of the first repeat."""

    number: int
    seed: int
    start_s: float
    end_s: float
    requests: int


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """The measured time, in seconds after the start of the load: from the first repeat to the end of the last one.

    Warm-ups between repeats lie inside, and are not measured. ``method``: how the end of the warm-up is found.
    ``steady``: False if no steady state was found; None if the method does not test it. ``requests``: the number of
    measured requests.
    """

    method: str
    start_s: float
    end_s: float
    requests: int
    steady: bool | None = None
    repeats: tuple[RepeatRecord, ...] = ()

    @property
    def stretches(self) -> tuple[Span, ...]:
        """The measured spans, one per repeat, each [begin, end) in seconds after the start of the load."""
        return tuple((one.start_s, one.end_s) for one in self.repeats)

    @property
    def seconds(self) -> float:
        """The total measured time, without warm-ups."""
        return sum(one.end_s - one.start_s for one in self.repeats)


@dataclass(frozen=True, slots=True)
class LatencyRecord:
    """Percentiles over successful and timed-out requests. A time-out counts as a latency of at least the limit.

    ``corrected``: latency from the intended send, which includes the wait for a slow server (no coordinated omission).
    ``uncorrected``: latency from the actual send, as closed-loop tools report it. Both are None if all percentiles are
    refused. ``untrusted``: corrected percentiles that ``validity`` refuses, kept apart so that scripts do not use them
    by mistake.
    """

    corrected: dict[str, Percentile] | None
    uncorrected: dict[str, Percentile] | None
    untrusted: dict[str, Percentile] | None


@dataclass(frozen=True, slots=True)
class ThroughputRecord:
    """Requests per second of the measured time: offered (due), sent, and goodput (successful).

    ``offered_per_s``: None for a closed loop.
    """

    offered_per_s: float | None
    sent_per_s: float
    goodput_per_s: float


@dataclass(frozen=True, slots=True)
class ObjectiveRecord:
    """Whether latency stays below ``limit_ms`` at ``quantile``.

    ``state``: ``met`` or ``missed`` if the whole confidence interval lies below or above the limit, ``undecided`` if it
    contains the limit, ``unknown`` with too few requests or for an invalid run. ``good_share``: successful requests
    within the limit, as a share of all measured requests. ``goodput_per_s``: the same requests per second.
    """

    quantile: float
    limit_ms: float
    state: str
    good_share: float
    goodput_per_s: float


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """The load as the generator saw it, warm-ups included. A field is None if it is unknown.

    ``connections``: the number opened for ``requests``. ``run_delay``: the share of the time in which the generator was
    ready and waited for a core. ``resent``: TCP segments that it retransmitted. ``json_ms``: the time for Python's json
    on this machine to parse the largest request body and to write its response (estimated by bytes).
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
    """Mean stage times of all requests, and of the requests around each percentile (a band).

    The terms of a band add up to its total latency. ``server``: whether the server sent stage times. ``unaccounted``:
    responses without stage times. ``contradictions``: requests whose stage times exceed their latency.
    """

    server: bool
    requests: int
    unaccounted: int
    contradictions: int
    bands: dict[str, Band]


@dataclass(frozen=True, slots=True)
class TailRecord:
    """The difference between the bands around p99 and p50, in ms: by term, and their sum ``gap_ms``.

    ``band``: the quantiles of the band around p99.
    """

    band: tuple[float, float]
    gap_ms: float
    contributions_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run.

    ``partial``: Ctrl-C ended it, with ``abandoned`` requests in flight. ``host``: the server timeline, measured during
    the load. ``link`` and ``memory``: bandwidths; None if unknown. ``client`` and ``verdict``: None in older records.
    ``burst``: the burst probe; None without one. ``testable``: names of the causes that an experiment on this server
    can test; None if that is unknown. ``raw``: the name of the file with the raw rows, beside the record.
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
    # Imported here: only commands that read a record need pydantic, and its import is slow.
    from pydantic import TypeAdapter

    return TypeAdapter(RunRecord)


def measured(columns: dict[str, NDArray[np.int64]], repeats: Sequence[RepeatRecord]) -> NDArray[np.bool_]:
    """Which of the raw rows are measured, bool [n]: those of the repeats, without warm-ups."""
    is_measured = np.zeros(len(columns["due_ns"]), dtype=np.bool_)
    for repeat in repeats:
        is_measured |= (columns["repeat"] == repeat.number) & (columns["due_ns"] >= round(repeat.start_s * NS_PER_S))
    return is_measured


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
        document = orjson.loads(text)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise Unusable(
                f"{str(path)!r} is not a result of this version of bench: its schema is not {SCHEMA}; measure again"
            )
        record = RunRecord.from_json(text)
        with np.load(path.with_name(record.raw or raw_path(path).name), allow_pickle=False) as rows:
            unknown = np.full(len(rows["index"]), MISSING, dtype=np.int64)  # older records lack columns in ABOUT
            return record, {name: unknown if name in ABOUT and name not in rows else rows[name] for name in COLUMNS}
    except (OSError, ValueError, KeyError) as error:
        raise Unusable(f"cannot read the result {str(path)!r}: {_short_message(error)}") from error


def _short_message(error: Exception) -> str:
    """The first three lines of an error message in one line. A validation error has several lines per field."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return "; ".join(line.strip() for line in text.splitlines()[:3])
