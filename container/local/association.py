"""Filters and joins of a transform job: what of a record is sent, and how record and prediction become one line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .jsonpath import BadPath, parse, pick
from .records import BadInput

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
class _Form:
    """How a line is read and written."""

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


class Association:
    """The filters of one job over lines of one content type."""

    def __init__(self, processing: DataProcessing, content_type: str, accept: str) -> None:
        """Raises BadInput for a filter that cannot be read, and for types without records."""
        self._joins = processing.join_source == "Input"
        try:
            self._input = parse(processing.input_filter)
            self._output = parse(processing.output_filter)
        except BadPath as error:
            raise BadInput(f"DataProcessing: {error}") from error
        self._form = _form(content_type)
        self._answer_form = _form(accept or content_type)
        if self._joins and self._answer_form is not self._form:
            raise BadInput(f"JoinSource Input needs an answer in the form of the input: set Accept to {content_type}")

    def sent(self, record: bytes) -> bytes:
        """What of a record the container gets."""
        return record if not self._input else self._form.write(self._pick(self._form.read(record), self._input))

    def result(self, record: bytes, answer: bytes) -> bytes:
        """The line that is written for a record and its answer, without its end."""
        value = self._answer_form.read(answer)
        if self._joins:
            value = _join(self._form.read(record), value)
        return self._answer_form.write(self._pick(value, self._output) if self._output else value)

    def results(self, records: list[bytes], answers: Iterable[bytes]) -> bytes:
        """The lines of one request. Raises BadInput when there is not one answer for each record."""
        given = list(answers)
        if len(given) != len(records):
            raise BadInput(f"{len(records)} records were sent, and {len(given)} lines came back: they cannot be joined")
        return b"".join(self.result(*pair) + b"\n" for pair in zip(records, given, strict=True))

    @staticmethod
    def _pick(value: Any, steps: list[Any]) -> Any:
        try:
            return pick(value, steps)
        except BadPath as error:
            raise BadInput(f"DataProcessing: {error}") from error


def _join(record: Any, answer: Any) -> Any:
    if isinstance(record, list) and isinstance(answer, list) and all(isinstance(cell, str) for cell in record):
        return record + answer
    if isinstance(record, dict):
        return {**record, OUTPUT: answer}
    return {INPUT: record, OUTPUT: answer}


def _form(content_type: str) -> _Form:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _CSV:
        return _CELLS
    if kind in _JSON_LINES:
        return _OBJECTS
    raise BadInput(f"filters and joins know text/csv and JSON lines, not {content_type or 'an unnamed type'}")


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
        raise BadInput(f"a line is no JSON ({error}): {line[:80].decode('utf-8', 'replace')}") from error


def _write_object(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


_CELLS = _Form(_read_cells, _write_cells)
_OBJECTS = _Form(_read_object, _write_object)
