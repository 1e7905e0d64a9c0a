"""The CSV reader of tensors and scripts: files of other writers, and damaged ones."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.codecs import csv_rows
from server.codecs.csv_rows import blocks, check_widths, read_rows, text_of
from server.errors import MalformedInput

CELLS = st.text(st.sampled_from("ab1.5 ,\"'\n\r\té€\ufeff"), max_size=6)


@given(
    rows=st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1)),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)
def test_every_file_of_a_csv_writer_reads_back(rows: list[list[str]], quoting: int, end: str, mark: bool) -> None:
    if quoting == csv.QUOTE_MINIMAL:  # that writer leaves a carriage return without quotes
        rows = [[cell.replace("\r", "") for cell in row] for row in rows]
    out = io.StringIO(newline="")
    csv.writer(out, quoting=quoting, lineterminator=end).writerows(rows)  # type: ignore[arg-type]
    text = ("\ufeff" if mark else "") + out.getvalue()
    if not mark and text.startswith("\ufeff"):
        return  # a byte order mark, and no longer a part of the cell
    assert read_rows(text) == rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "end", "end twice"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_line_ends_and_blank_lines_at_the_end_do_not_matter(end: str, last: str, quote: str) -> None:
    body = end.join(f"{quote}{a}{quote},{b}" for a, b in ((1, 2), (3, 4))) + end * len(last.split())
    assert read_rows(body) == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize("body", ["1\n\n2", '"1"\n\n"2"', "\n1", '\n"1"'])
def test_a_blank_line_before_the_last_row_is_refused(body: str) -> None:
    with pytest.raises(MalformedInput, match=r"row \d is empty"):
        read_rows(body)


@pytest.mark.parametrize("body", ["", "\n", "\r\n\r\n", "\ufeff"])
def test_an_empty_body_is_refused(body: str) -> None:
    with pytest.raises(MalformedInput, match="the body is empty"):
        read_rows(body)


@pytest.mark.parametrize("body", ['"open', '"a"b,c', '1,"2'])
def test_unbalanced_quotes_are_refused(body: str) -> None:
    with pytest.raises(MalformedInput, match="not CSV"):
        read_rows(body)


def test_a_cell_may_be_of_any_length() -> None:
    cell = "word " * 400_000
    assert read_rows(f'"{cell}"\n') == read_rows(f"{cell}\n") == [[cell]]


def test_rows_of_different_widths_are_named() -> None:
    assert check_widths([["1", "2"], ["3", "4"]]) == 2
    with pytest.raises(MalformedInput, match="row 1 has 1 values, row 0 has 2"):
        check_widths([["1", "2"], ["3"]])


def test_bytes_are_read_in_their_charset() -> None:
    assert text_of(b"\xef\xbb\xbfa", "UTF-8") == "a"
    assert text_of(b"caf\xe9", "latin-1") == "café"
    for body, charset in ((b"\xff", "utf-8"), (b"\xe9", "ascii"), (b"a", "klingon")):
        with pytest.raises(MalformedInput):
            text_of(body, charset)


def test_a_large_text_is_read_in_blocks_of_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "BLOCK", 10)
    text = "".join(f"{row},{row}\r\n" for row in range(100))
    parts = list(blocks(text))
    assert len(parts) > 10
    assert [cells for _, block in parts for cells in read_rows(block)] == read_rows(text)
    assert all(read_rows(block)[0] == [str(first), str(first)] for first, block in parts)


@pytest.mark.parametrize("place", range(8))
def test_a_blank_row_is_found_where_blocks_meet(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    monkeypatch.setattr(csv_rows, "BLOCK", 5)
    lines = [str(row) for row in range(9)]
    lines.insert(place, "")
    with pytest.raises(MalformedInput, match=f"row {place} is empty"):
        [read_rows(block, first) for first, block in blocks("\n".join(lines) + "\n")]
