"""The pool: connections that are opened ahead of the requests that will need them."""

from __future__ import annotations

from typing import cast

import pytest

from bench.load import target
from bench.load.calibration import ONLY
from bench.load.connection import Connection
from bench.load.measurements import Ending, Measurements, Outcome, Request
from bench.load.pool import Pool
from bench.load.server_timing import CARRIERS
from bench.load.shot import Shot


class Line:
    """A connection that is open until its first response."""

    def __init__(self, server: Server) -> None:
        self.usable = True
        self.server = server

    def send(self, request: Request) -> None:
        self.server.sent.append((self, request))

    def resent(self) -> None:
        """It does not count segments."""


class Server:
    """Opens the connections of a pool when it is told to, and closes each after one response."""

    def __init__(self, spare: int, most: int = 8) -> None:
        self.sent: list[tuple[Line, Request]] = []
        shot = Shot(target.parse("http://127.0.0.1:1"), (), ONLY, CARRIERS["none"], 5.0, most, spare=spare)
        self.pool = Pool(shot, lambda: 0, Measurements(), lambda _: None, lambda *_: None, lambda: None)

    def accept(self) -> None:
        """Open everything that the pool has dialled."""
        while self.pool.dialling:
            self.pool.opened(cast("Connection", Line(self)))

    def answer(self) -> None:
        """Answer every request, and close its connection."""
        answered, self.sent = self.sent, []
        for line, request in answered:
            line.usable = False
            self.pool.ended(cast("Connection", line), request, Ending(Outcome.OK), 1)
            self.pool.closed(cast("Connection", line))


@pytest.mark.parametrize(("spare", "waited"), [(0, 5), (2, 0)])
def test_no_request_waits_for_a_connection_that_was_opened_ahead(spare: int, waited: int) -> None:
    server = Server(spare)
    server.pool.open(2)
    server.accept()
    unsent = 0
    for number in range(7):
        request = Request(number, 0, 0, b"", 0, 0)
        before = len(server.sent)
        server.pool.submit(request)
        unsent += len(server.sent) == before
        server.accept()
        server.answer()
    assert unsent == waited
    assert server.pool.in_flight == 0


def test_spare_connections_stay_within_the_limit() -> None:
    server = Server(spare=50, most=3)
    server.pool.open(1)
    server.accept()
    for number in range(3):
        server.pool.submit(Request(number, 0, 0, b"", 0, 0))
    server.accept()
    assert len(server.pool.connections) == 3
