"""The dashboard with one viewer: requests a second with and without one, in blocks ABBA, and the cost of a document."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.peers import networks
from tests.benchmarks.server.processes import cpu_s, free_port, served, slipway, wrk, wrk_script

EVERY_S = 2.0
"""The page asks for its document so often."""
CONNECTIONS = 32
DOCUMENTS = 20
KEPT_S = 1.05
"""The server sends one document to all viewers of a second."""


def viewer(work: Path, rounds: int, seconds: int) -> None:
    """The ratio of the rates, its spread over the rounds, and the processor time of a document without a load."""
    model = work / "perceptron.onnx"
    networks.perceptron(model)
    script = wrk_script(work / "post.lua")
    port = free_port()
    ratios = []
    with served(slipway(model, port), port, work / "slipway.log") as server:
        for _ in range(rounds):
            alone, watched, again, last = (
                _rate(port, script, seconds, watched=False),
                _rate(port, script, seconds, watched=True),
                _rate(port, script, seconds, watched=True),
                _rate(port, script, seconds, watched=False),
            )
            ratios.append((watched + again) / (alone + last))
        document_s = _document_s(port, server.pid)
    middle = statistics.median(ratios)
    print(
        f"viewer: requests/s with one viewer over those without: {middle:.4f}, {min(ratios):.4f} to {max(ratios):.4f} "
        f"in {rounds} rounds (wanted: 0.99)"
    )
    print(
        f"viewer: processor time of a document: {document_s * 1e3:.2f} ms, {document_s / EVERY_S:.2%} of a core with "
        "one viewer"
    )


def _rate(port: int, script: Path, seconds: int, watched: bool) -> float:
    with watching(port) if watched else contextlib.nullcontext():
        return wrk(port, script, CONNECTIONS, seconds).rate


@contextlib.contextmanager
def watching(port: int) -> Iterator[None]:
    """Ask for the document every two seconds, from the first instant on, until the block ends."""
    over = threading.Event()

    def watch() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while True:
            ask(connection)
            if over.wait(EVERY_S):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def ask(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/dashboard/state")
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the dashboard answered {answer.status}")


def _document_s(port: int, pid: int) -> float:
    """Processor time of one document, from that of as many seconds without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    begun_s = cpu_s(pid)
    for _ in range(DOCUMENTS):
        ask(connection)
        time.sleep(KEPT_S)  # else the server sends the last document again
    middle_s = cpu_s(pid)
    time.sleep(DOCUMENTS * KEPT_S)  # the same time without documents
    return ((middle_s - begun_s) - (cpu_s(pid) - middle_s)) / DOCUMENTS
