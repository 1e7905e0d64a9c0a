"""Comma-separated values as rows of cells: the one reader for tensors and scripts.

The rules are those of RFC 4180. A quoted cell may hold commas, line breaks and, doubled, quotes. A line ends with LF,
CRLF or CR. A byte order mark at the start and blank lines at the end are skipped. A blank line before the last row is
an error: a response has one line for each line of its request. Cells may be of any length.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence

from ..errors import MalformedInput
from .expansion import check_csv
from .nested import shown

csv.field_size_limit(1 << 62)  # the module's only limit, and global: 131,072 characters by default

Rows = list[list[str]]

BLOCK = 1_000_000
"""Least size of a part of a large body, in characters."""

_CHARSETS = {"utf-8": "utf-8-sig", "utf8": "utf-8-sig", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1",
             "latin-1": "latin-1", "latin1": "latin-1"}  # fmt: skip


def text_of(body: bytes, charset: str) -> str:
    """The text of a body. Raises MalformedInput for an unknown charset, or a byte that is not in it."""
    codec = _CHARSETS.get(charset.lower())
    if codec is None:
        raise MalformedInput(f"charset {shown(charset)} is not read; {', '.join(_CHARSETS)} are")
    try:
        return body.decode(codec)
    except UnicodeDecodeError as error:
        raise MalformedInput(f"the body is not {charset}: byte {error.start} is {body[error.start]:#04x}") from error


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first row, rows as text) for parts of at least ``BLOCK`` characters, so that not all cells are in
    memory at a time. Text with quotes is one part. Raises MalformedInput for a blank line between two parts."""
    if len(text) <= BLOCK or '"' in text:
        yield 0, text
        return
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    at = row = 0
    while at <= len(text):
        end = text.find("\n", at + BLOCK)
        end = len(text) if end < 0 else end
        block = text[at:end]
        if not block or block.endswith("\n"):
            empty = row + block.count("\n")
            raise MalformedInput(f'row {empty} is empty; remove the line, or write "" for an empty cell')
        yield row, block
        row += block.count("\n") + 1
        at = end + 1


def read_rows(text: str, first_row: int = 0) -> Rows:
    """The cells of each row, unquoted. Rows may differ in length. Errors count rows from ``first_row``.

    Raises MalformedInput, or BodyTooLarge if the cells take too much memory.
    """
    check_csv(text)
    text = text.removeprefix("\ufeff")
    if '"' in text:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise MalformedInput(f"the body is not CSV: {error}") from error
    else:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        rows = [line.split(",") if line else [] for line in lines]
    while rows and not rows[-1]:
        rows.pop()
    if not rows:
        raise MalformedInput("the body is empty; send one line a row")
    for index, row in enumerate(rows):
        if not row:
            raise MalformedInput(f'row {first_row + index} is empty; remove the line, or write "" for an empty cell')
    return rows


def check_widths(rows: Sequence[Sequence[object]], first_row: int = 0, width: int = 0) -> int:
    """The number of cells of every row; ``width``: that of row 0, if it is not among these. Raises MalformedInput if
    rows differ."""
    width = width or len(rows[0])
    for index, row in enumerate(rows, first_row):
        if len(row) != width:
            raise MalformedInput(f"row {index} has {len(row)} values, row 0 has {width}; all rows need the same number")
    return width


def whole(cell: str) -> int:
    """A cell as a whole number; spaces around it do not count. Raises ValueError."""
    if "_" in cell or not cell.isascii():  # int() also reads 1_000 and digits of other scripts
        raise ValueError
    return int(cell)


def number(cell: str) -> float:
    """A cell as a number; ``nan`` and ``inf`` are numbers. Raises ValueError."""
    if "_" in cell or not cell.isascii():
        raise ValueError
    return float(cell)


def number_or_missing(cell: str) -> float:
    """As :func:`number`; an empty cell is NaN."""
    return number(cell) if cell.strip() else math.nan
