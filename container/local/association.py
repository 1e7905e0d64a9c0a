"""Filters and joins of a transform job: the part of a record that is sent, and its output line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .jsonpath import InvalidPath, parse, pick
from .records import InvalidInput

ALL = "$"
OUTPUT, INPUT = "SageMakerOutput", "SageMakerInput"
_CSV = "text/csv"
_JSON_LINES = ("application/jsonlines", "application/x-ndjson", "application/jsonl", "application/json")


@dataclass(frozen=True, slots=True)
class DataProcessing:
    """As in CreateTransformJob: JSONPath expressions, and ``Input`` or ``None`` as the source of a join."""

    input_filter: str = ALL
    output_filter: str = ALL
    join_source: str = "None"

    @property
    def needed(self) -> bool:
        return (self.input_filter, self.output_filter, self.join_source) != (ALL, ALL, "None")


@dataclass(frozen=True, slots=True)
class _RecordFormat:
    """The parser and the writer of a line."""

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


class Association:
    """The filters and the join of one job, for records of one content type."""

    def __init__(self, processing: DataProcessing, content_type: str, accept: str) -> None:
        """Raises InvalidInput for a filter that cannot be parsed, and for content types without records."""
        self._joins = processing.join_source == "Input"
        try:
            self._input = parse(processing.input_filter)
            self._output = parse(processing.output_filter)
        except InvalidPath as error:
            raise InvalidInput(f"DataProcessing: {error}") from error
        self._format = _format_of(content_type)
        self._output_format = _format_of(accept or content_type)
        if self._joins and self._output_format is not self._format:
            raise InvalidInput(
                f"JoinSource Input needs predictions in the format of the input: set Accept to {content_type}"
            )

    def sent(self, record: bytes) -> bytes:
        """The part of a record that the container gets."""
        return record if not self._input else self._format.write(self._pick(self._format.read(record), self._input))

    def result(self, record: bytes, prediction: bytes) -> bytes:
        """The output line of a record and its prediction, without a line end."""
        value = self._output_format.read(prediction)
        if self._joins:
            value = _join(self._format.read(record), value)
        return self._output_format.write(self._pick(value, self._output) if self._output else value)

    def results(self, records: list[bytes], predictions: Iterable[bytes]) -> bytes:
        """The output lines of one request. Raises InvalidInput unless there is one prediction for each record."""
        given = list(predictions)
        if len(given) != len(records):
            raise InvalidInput(
                f"{len(records)} records were sent, and {len(given)} lines came back: one for each is needed"
            )
        return b"".join(self.result(*pair) + b"\n" for pair in zip(records, given, strict=True))

    @staticmethod
    def _pick(value: Any, steps: list[Any]) -> Any:
        try:
            return pick(value, steps)
        except InvalidPath as error:
            raise InvalidInput(f"DataProcessing: {error}") from error


def _join(record: Any, answer: Any) -> Any:
    if isinstance(record, list) and isinstance(answer, list) and all(isinstance(cell, str) for cell in record):
        return record + answer
    if isinstance(record, dict):
        return {**record, OUTPUT: answer}
    return {INPUT: record, OUTPUT: answer}


def _format_of(content_type: str) -> _RecordFormat:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _CSV:
        return _CELLS
    if kind in _JSON_LINES:
        return _OBJECTS
    raise InvalidInput(f"filters and joins take text/csv and JSON lines, not {content_type or 'an unnamed type'}")


def _read_cells(line: bytes) -> list[str]:
    return next(csv.reader([line.decode("utf-8")]), [])


def _write_cells(cells: Any) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells if isinstance(cells, list) else [cells])
    return out.getvalue().encode()


def _read_object(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise InvalidInput(f"a line is no JSON ({error}): {line[:80].decode('utf-8', 'replace')}") from error


def _write_object(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


_CELLS = _RecordFormat(_read_cells, _write_cells)
_OBJECTS = _RecordFormat(_read_object, _write_object)
