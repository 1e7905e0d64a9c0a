"""The output of a worker process: what it writes is in the log, and a log that nobody reads does not stop it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from server.observe.logs import LogWriter
from server.scripts import worker_output
from server.scripts.worker_output import WorkerOutput

PATIENCE_S = 30.0


@pytest.fixture
def log() -> Iterator[tuple[int, LogWriter]]:
    """The reading end of a log, and its writer."""
    reader, descriptor = os.pipe()
    writer = LogWriter(descriptor, max_bytes=10_000)
    writer.setFormatter(logging.Formatter("FORMATTED %(message)s"))
    worker_output.log.addHandler(writer)
    worker_output.log.propagate = False
    yield reader, writer
    worker_output.log.propagate = True
    worker_output.log.removeHandler(writer)
    os.close(reader)
    os.close(descriptor)


def test_lines_are_passed_on_as_they_are_and_the_end_of_the_worker_ends_the_thread(log: tuple[int, LogWriter]) -> None:
    reader, writer = os.pipe()
    output = WorkerOutput(os.fdopen(reader, "rb"))
    os.write(writer, b"one\n\xff two\nlast without an end")
    os.close(writer)
    output.finish(PATIENCE_S)
    assert not output._thread.is_alive()
    assert os.read(log[0], 1_000) == b"one\n\\xff two\nlast without an end\n"


def test_a_worker_goes_on_although_nobody_reads_the_log(log: tuple[int, LogWriter]) -> None:
    reader, writer = os.pipe()
    output = WorkerOutput(os.fdopen(reader, "rb"))
    for number in range(3_000):
        os.write(writer, b"%04d " % number + b"x" * 95 + b"\n")
    os.close(writer)
    output.finish(PATIENCE_S)
    assert not output._thread.is_alive()
    assert log[1].dropped > 0
    while b"log lines dropped" not in os.read(log[0], 65_536):
        pass
    log[1].flush()
