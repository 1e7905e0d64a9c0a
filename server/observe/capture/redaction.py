"""Redaction: removes named fields from captured bodies. A body in which they cannot be found for sure is left out."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import Any

import orjson

TENSOR_LISTS = ("inputs", "outputs")
ROW_LISTS = ("instances", "inputs", "data", "dataframe_records", "predictions")


class NotRedactable(Exception):
    """It cannot be shown that the fields were removed."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """The fields to remove: ``names`` of JSON keys, tensors and CSV columns, and ``columns`` by position from 0."""

    names: frozenset[str] = field(default_factory=frozenset)
    columns: frozenset[int] = field(default_factory=frozenset)

    @property
    def active(self) -> bool:
        return bool(self.names or self.columns)

    def apply(self, body: bytes, encoding: str, header_size: int | None, *, is_input: bool) -> bytes:
        """The body without the fields: null in JSON, empty in CSV, zeros in binary tensors.

        ``encoding``: ``JSON``, ``CSV`` or ``BASE64``; ``header_size``: bytes of JSON before binary tensors. Positions
        are those of input rows. Raises NotRedactable.
        """
        try:
            if header_size is not None:
                return self._binary(body, header_size)
            if encoding == "CSV":
                return self._csv(body, is_input)
            if encoding == "JSON":
                return self._json(body, is_input)
        except (ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
            raise NotRedactable from error
        raise NotRedactable

    def _json(self, body: bytes, is_input: bool) -> bytes:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:  # perhaps lines
            lines = [orjson.loads(line) for line in body.splitlines() if line.strip()]
            return b"".join(orjson.dumps(self._rows(one, is_input)) + b"\n" for one in lines)
        return orjson.dumps(self._document(document, is_input))

    def _document(self, document: Any, is_input: bool) -> Any:
        if isinstance(document, dict):
            if _is_split(document):
                return self._named(document)
            listed = {key: document.pop(key) for key in ROW_LISTS if key in document and key not in self.names}
            document = self._named(document)
            for key, value in listed.items():
                tensors = key in TENSOR_LISTS and isinstance(value, list) and all(map(_is_tensor, value))
                document[key] = self._named(value) if tensors else self._rows(value, is_input)
            return document
        return self._rows(document, is_input)

    def _rows(self, value: Any, is_input: bool) -> Any:
        """A list of rows, or one row. Rows of values have positions only."""
        if isinstance(value, dict):
            return self._named(value)
        if not isinstance(value, list):
            return value
        if not is_input:
            return self._named(value)
        if value and all(isinstance(row, dict) for row in value):
            return [self._named(row) for row in value]
        if not self.columns:
            raise NotRedactable
        if value and all(isinstance(row, list) for row in value):
            return [[None if at in self.columns else one for at, one in enumerate(row)] for row in value]
        return [None if at in self.columns else one for at, one in enumerate(value)]

    def _split(self, split: dict[str, Any]) -> dict[str, Any]:
        hidden = {at for at, name in enumerate(split["columns"]) if str(name) in self.names} | self.columns
        if not all(isinstance(row, list) for row in split["data"]):
            raise NotRedactable
        rows = [[None if at in hidden else one for at, one in enumerate(row)] for row in split["data"]]
        return {**split, "data": rows}

    def _named(self, value: Any) -> Any:
        """The value without the named keys and tensors, at any depth."""
        if isinstance(value, list):
            return [self._named(one) for one in value]
        if not isinstance(value, dict):
            return value
        if _is_tensor(value) and value["name"] in self.names:
            return {**value, "data": None}
        if _is_split(value):
            value = self._split(value)
        return {key: None if key in self.names else self._named(one) for key, one in value.items()}

    def _csv(self, body: bytes, is_input: bool) -> bytes:
        rows = list(csv.reader(io.StringIO(body.decode())))
        hidden = {at for at, name in enumerate(rows[0]) if name.strip() in self.names} if rows else set()
        if is_input:
            if not hidden and not self.columns:
                raise NotRedactable
            hidden |= self.columns
        header = rows[0] if rows and {name.strip() for name in rows[0]} & self.names else None
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        for row in rows:
            writer.writerow(row if row is header else ["" if at in hidden else one for at, one in enumerate(row)])
        return written.getvalue().encode()

    def _binary(self, body: bytes, header_size: int) -> bytes:
        document = orjson.loads(body[:header_size])
        tensors = [one for key in TENSOR_LISTS for one in document.get(key) or ()]
        rest, at = bytearray(body[header_size:]), 0
        for tensor in tensors:
            size = int((tensor.get("parameters") or {}).get("binary_data_size") or 0)
            if size < 0 or at + size > len(rest):
                raise NotRedactable
            if tensor["name"] in self.names:
                rest[at : at + size] = bytes(size)
            at += size
        header = orjson.dumps(self._named(document))
        return header.ljust(header_size) + bytes(rest) if len(header) <= header_size else _too_long()


def _too_long() -> bytes:
    raise NotRedactable


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str) and ("datatype" in value or "data" in value)


def _is_split(value: dict[str, Any]) -> bool:
    """Whether it is a table of ``columns`` and ``data``."""
    return isinstance(value.get("columns"), list) and isinstance(value.get("data"), list)


def redaction_of(text: str) -> Redaction:
    """The redaction of a setting: names and column numbers, separated by commas."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    numbers = frozenset(int(part) for part in parts if part.isdecimal())
    return Redaction(frozenset(part for part in parts if not part.isdecimal()), numbers)
