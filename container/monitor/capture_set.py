"""The captured set: the columns and predictions of all events of a place, and what could not be read."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .columns import Table
from .errors import MonitorError
from .events import BadLine, Body, Event, parse
from .places import Place
from .quality import Pairs, row_prediction
from .rows import MAX_COLUMNS, Rows, read

OUTPUT = "output."
BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class CaptureSet:
    """Columns of requests under their names, and of responses under ``output.NAME``."""

    inputs: Table = field(default_factory=Table)
    outputs: Table = field(default_factory=Table)
    events: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    """Lines and bodies that were skipped, by their fault."""
    pairs: Pairs = field(default_factory=Pairs)

    @property
    def columns(self) -> dict[str, Any]:
        """All columns by name."""
        return {**self.inputs.columns, **{OUTPUT + name: one for name, one in self.outputs.columns.items()}}

    def add(self, line: bytes, labels: Mapping[str, Sequence[Any]] | None, prediction: str) -> None:
        """Add a line of a capture file. ``labels``: of the rows of an event, by its id; ``prediction``: the output
        column that is the prediction, empty for all."""
        if not line.strip():
            return
        try:
            event = parse(line)
        except BadLine as fault:
            self.bad[str(fault)] += 1
            return
        self.events += 1
        self._side(self.inputs, event.asked)
        answered = self._side(self.outputs, event.answered)
        if labels is not None and answered:
            self._pair(event, answered, labels, prediction)

    def _side(self, table: Table, body: Body | None) -> list[Rows]:
        if body is None:
            return []
        try:
            groups = read(body)
        except BadLine as fault:
            self.bad[str(fault)] += 1
            return []
        for group in groups:
            table.add(group)
        return groups

    def _pair(self, event: Event, groups: list[Rows], labels: Mapping[str, Sequence[Any]], prediction: str) -> None:
        label = labels.get(event.identity)
        if label is None:
            self.pairs.unmatched += 1
            return
        predicted = []
        for group in groups:
            if prediction and prediction not in group.names:
                raise MonitorError(
                    f"the captured output has no column {prediction!r}, but {', '.join(group.names[:5])}"
                )
            at = group.names.index(prediction) if prediction else None
            try:
                predicted += [row[at] if at is not None else row_prediction(row) for row in group.rows]
            except (ValueError, TypeError, IndexError):
                self.bad["an output that is no prediction"] += 1
                return
        self.pairs.add(predicted, label)

    def finish(self) -> None:
        """Count the last rows."""
        self.inputs.finish()
        self.outputs.finish()

    def name_positions(self, names: Sequence[str]) -> None:
        """Give the columns of requests without names (``_cN``) these names, if there are as many."""
        columns = self.inputs.columns
        if len(columns) == len(names) and all(name == f"_c{at}" for at, name in enumerate(columns)):
            self.inputs.columns = dict(zip(names, columns.values(), strict=True))


def captured(place: Place, labels: Mapping[str, Sequence[Any]] | None = None, prediction: str = "") -> CaptureSet:
    """All events of a place. Raises MonitorError if there is none."""
    found = CaptureSet()
    for name, line in place.lines():
        if name.removesuffix(".gz").endswith(".csv"):
            raise MonitorError(f"{name} is no capture file; a folder of captured events has .jsonl files only")
        found.add(line, labels, prediction)
    found.finish()
    if place.long_lines:
        found.bad["a line above the limit"] += place.long_lines
    if place.broken_files:
        found.bad["a file that is cut off"] += place.broken_files
    if not found.events:
        faults = ", ".join(f"{count} lines: {fault}" for fault, count in found.bad.most_common(3))
        raise MonitorError(f"{place.url} has no captured event ({faults or 'no lines'})")
    return found


def data_set(place: Place, *, header: bool, names: Sequence[str] = ()) -> CaptureSet:
    """A data set in CSV, such as training data. ``header``: the first line of each file has the names.

    Raises MonitorError.
    """
    found, current, columns = CaptureSet(), "", tuple(names)
    waiting: list[str] = []

    def flush() -> None:
        try:
            rows = [row[:MAX_COLUMNS] for row in csv.reader(waiting) if row]
        except csv.Error as error:
            raise MonitorError(f"{current} is no CSV: {error}") from error
        waiting.clear()
        for width, group in _by_width(rows):
            shown = columns[:width] if columns else tuple(f"_c{at}" for at in range(width))
            if len(shown) == width:
                found.inputs.add(Rows(shown, group))
            else:
                found.bad["a row with more values than names"] += len(group)

    for name, line in place.lines():
        text = line.removeprefix(BOM).decode(errors="replace")
        if name != current:
            flush()
            current = name
            if header:
                columns = tuple(one.strip() for one in next(csv.reader([text]), []))[:MAX_COLUMNS]
                continue
        waiting.append(text)
        if len(waiting) >= 10_000 and text.count('"') % 2 == 0:
            flush()
    flush()
    found.finish()
    found.events = found.inputs.rows
    if not found.events:
        raise MonitorError(f"{place.url} has no rows")
    return found


def _by_width(rows: Iterable[list[str]]) -> list[tuple[int, list[Sequence[Any]]]]:
    groups: dict[int, list[Sequence[Any]]] = {}
    for row in rows:
        groups.setdefault(len(row), []).append(row)
    return list(groups.items())


def labels_of(place: Place) -> dict[str, list[Any]]:
    """The labels of each event by its id, from ground truth files. Raises MonitorError if there is none."""
    found: dict[str, list[Any]] = {}
    bad = 0
    for _, line in place.lines():
        if not line.strip():
            continue
        try:
            event = parse(line)
            if event.label is None or not event.identity:
                raise BadLine("no label")
            rows = [row for group in read(event.label) for row in group.rows]
        except BadLine:
            bad += 1
            continue
        found[event.identity] = [row[0] if row else None for row in rows]
    if not found:
        raise MonitorError(f"{place.url} has no labels ({bad} lines that are no ground truth)")
    return found
