"""The log writer and a reader that does not read."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from server.observe.logs import LogWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def record(text: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text, "levelno": logging.INFO, "levelname": "INFO"})


def test_a_line_is_written_at_once(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    writer.handle(record("one"))
    assert os.read(pipe[0], 100) == b"one\n"
    assert threading.active_count() == len(threading.enumerate())


def test_a_stalled_reader_stops_nobody_and_the_lost_lines_are_counted_and_reported(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], max_bytes=10_000)
    lines = [f"{index:04d} " + "x" * 95 for index in range(2_000)]
    for line in lines:
        writer.handle(record(line))
    assert 0 < writer.dropped < len(lines)
    received = b""
    while b"log lines dropped" not in received:
        received += os.read(pipe[0], 65_536)
    kept = [line for line in received.decode().splitlines() if line.endswith("x")]
    assert kept == sorted(kept)
    assert len(kept) == len(lines) - writer.dropped
    assert f"count={writer.dropped}" in received.decode()
    writer.flush()
    writer.handle(record("after"))
    assert os.read(pipe[0], 100) == b"after\n"


def test_a_reader_that_has_closed_costs_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    os.close(pipe[0])
    writer.handle(record("one"))
    assert writer.dropped == 1


def test_a_line_of_many_pages_arrives_whole(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    long = "y" * 200_000
    writer.handle(record(long))
    received = b""
    while not received.endswith(b"\n"):
        received += os.read(pipe[0], 65_536)
    assert received.decode() == long + "\n"


def test_text_that_is_not_utf_8_is_escaped(pipe: tuple[int, int]) -> None:
    LogWriter(pipe[1]).handle(record("a \ud800 b"))
    assert os.read(pipe[0], 100) == b"a \\ud800 b\n"


def test_structured_lines_are_json_with_the_pairs_of_the_message(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    writer.write_as("json", 2)
    template = "step warmed up 100%% model=%s rows=%d took %.1f ms cost_us=%.0f name=%r"
    values = {"levelno": logging.INFO, "levelname": "INFO", "name": "slipway.models", "created": 0.0}
    writer.handle(logging.makeLogRecord({**values, "msg": template, "args": ("m", 3, 1.5, 2.25, "a b")}))
    assert json.loads(os.read(pipe[0], 1_000)) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "INFO",
        "logger": "slipway.models",
        "replica": 2,
        "message": "step warmed up 100% model=m rows=3 took 1.5 ms cost_us=2 name='a b'",
        "fields": {"model": "m", "rows": 3, "cost_us": 2.25, "name": "a b"},
    }


@pytest.mark.parametrize("message", ["two\nlines", 'quo"ted', "\ud800 lone", "100% of 5"])
def test_every_structured_line_is_one_json_object(pipe: tuple[int, int], message: str) -> None:
    writer = LogWriter(pipe[1])
    writer.write_as("json")
    try:
        raise ValueError(message)
    except ValueError:
        values = {"msg": message, "levelno": logging.ERROR, "levelname": "ERROR", "exc_info": sys.exc_info()}
    writer.handle(logging.makeLogRecord(values))
    writer.handle(logging.makeLogRecord({"msg": message, "levelname": "INFO", "verbatim": True}))
    lines = os.read(pipe[0], 10_000).splitlines()
    first, second = (json.loads(line) for line in lines)
    assert "ValueError" in first["exception"]
    assert len(lines) == 2
    assert second["message"]
