"""The engine against a real server on 127.0.0.1 that misbehaves in every way that servers do."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Callable

import numpy as np
import pytest

from bench.load import engine, event_loop, loops, schedule, target, wire
from bench.load.calibration import ONLY
from bench.load.callers import Callers
from bench.load.connection import Connection
from bench.load.measurements import Measurements, Outcome
from bench.load.payload import Payload
from bench.load.pool import Pool
from bench.load.raw_run import RawRun, Snapshot
from bench.load.server_timing import CARRIERS, MISSING, STAGES
from bench.load.shot import Shot
from tests.unit.bench.stub_server import ATTRIBUTES, TIMING, Reply, StubServer, failure, http, serving

PAYLOAD = Payload("p.json", "application/json", b'{"inputs": [1, 2, 3]}')
PLANTED = (12_000, 4_000, 3_000, 2_000, 1_000, 10_000, 1_000, 2_000, 8)


def shot(url: str, carrier: str = "header", timeout_s: float = 5.0, connections: int = 32) -> Shot:
    place = target.parse(url)
    chosen = CARRIERS[carrier]
    return Shot(place, (wire.render(place, PAYLOAD, chosen),), ONLY, chosen, timeout_s, connections)


def load(
    script: Callable[[int], Reply],
    requests: int = 40,
    carrier: str = "header",
    timeout_s: float = 5.0,
    connections: int = 32,
    rate_per_s: float = 400,
) -> tuple[RawRun, StubServer]:
    """An open loop of that many requests."""
    plan = schedule.build("constant", rate_per_s, requests / rate_per_s, 1)

    async def main() -> tuple[RawRun, StubServer]:
        async with serving(script) as (stub, url):
            return await engine.send(shot(url, carrier, timeout_s, connections), plan), stub

    return asyncio.run(main())


def outcomes(run: RawRun) -> dict[Outcome, int]:
    kinds, counts = np.unique(run.columns["outcome"], return_counts=True)
    return {Outcome(kind): int(count) for kind, count in zip(kinds, counts, strict=True)}


def test_the_schedule_is_sent_whole_in_order_and_never_early() -> None:
    run, stub = load(lambda _: http(200, b"12345", Server_Timing=TIMING))
    columns = run.columns
    assert columns["index"].tolist() == list(range(40))
    assert np.array_equal(columns["due_ns"], run.scheduled_ns)
    assert outcomes(run) == {Outcome.OK: 40}
    order = ("due_ns", "picked_ns", "send_ns", "sent_ns", "first_byte_ns", "last_byte_ns")
    for earlier, later in itertools.pairwise(order):
        assert (columns[earlier] <= columns[later]).all(), (earlier, later)
    assert (columns["bytes_in"] == 5).all()
    assert stub.bodies == [PAYLOAD.body] * 40
    assert not run.interrupted
    assert run.abandoned == 0
    assert stub.connections <= 32  # the cap, reached only if this machine pauses: 40 requests came


@pytest.mark.parametrize(
    ("carrier", "headers"),
    [("header", {"Server_Timing": TIMING}), ("custom-attributes", {"X_Amzn_SageMaker_Custom_Attributes": ATTRIBUTES})],
)
def test_planted_stage_times_come_back_exactly(carrier: str, headers: dict[str, str]) -> None:
    run, stub = load(lambda _: http(200, b"{}", **headers), carrier=carrier)
    for name, planted in zip((*(f"{stage}_ns" for stage in STAGES), "batch"), PLANTED, strict=True):
        assert (run.columns[name] == planted).all(), name
    asked = {"header": b"X-Slipway-Timing: 1", "custom-attributes": b"Custom-Attributes: slipway-timing"}[carrier]
    assert all(asked in head for head in stub.heads)


def test_errors_are_counted_by_kind_with_the_first_ones_words() -> None:
    def script(number: int) -> Reply:
        return [http(), failure(429, "overloaded", f"full at {number}"), failure(500, "internal", "ours")][number % 3]

    run, _ = load(script, requests=30)
    assert sorted(run.columns["status"].tolist()) == [200] * 10 + [429] * 10 + [500] * 10
    assert run.failures.keys() == {"429", "500"}
    assert b"full at 1" in run.failures["429"].detail


def test_a_server_that_closes_after_each_reply_is_connected_to_again() -> None:
    run, stub = load(lambda _: http(200, Connection="close"))
    assert outcomes(run) == {Outcome.OK: 40}
    assert stub.connections >= 40


def test_resets_and_truncated_replies_are_failures_of_their_own_kind() -> None:
    def script(number: int) -> Reply:
        whole = http(200, b"x" * 100).data
        return [Reply(whole), Reply(b"", close=True), Reply(whole[:-50], close=True), Reply(b"nonsense")][number % 4]

    run, _ = load(script)
    assert outcomes(run) == {Outcome.OK: 10, Outcome.CONNECTION: 10, Outcome.TRUNCATED: 20}
    assert run.failures.keys() == {"connection", "truncated"}


def test_a_silent_server_ends_in_time_outs_counted_from_the_intended_instant() -> None:
    run, _ = load(lambda _: Reply(hang=True), requests=20, timeout_s=0.1)
    assert outcomes(run) == {Outcome.TIMEOUT: 20}
    assert (run.columns["last_byte_ns"] - run.columns["due_ns"] == 100_000_000).all()


def test_waiting_for_a_connection_counts_as_latency_and_as_a_hit_cap() -> None:
    # Slowly, so that those which wait for the first to be given up have most of a second left, on a busy machine too.
    run, stub = load(
        lambda number: Reply(hang=True) if number == 0 else http(),
        requests=24,
        timeout_s=1.0,
        connections=1,
        rate_per_s=20,
    )
    columns = run.columns
    assert run.cap_hits > 0
    assert stub.connections == 2  # the second after the first was given up
    assert columns["outcome"][0] == Outcome.TIMEOUT
    waited = columns["outcome"] == Outcome.OK
    assert (columns["send_ns"][waited] - columns["due_ns"][waited]).max() > 100_000_000
    # The wait is not charged to the generator, which had picked the next request before the connection was free.
    assert columns["picked_ns"][1] < columns["last_byte_ns"][0]


def test_a_server_that_is_gone_fails_requests_and_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    plan = schedule.build("constant", 200, 0.1, 1)
    run = asyncio.run(engine.send(shot(f"http://127.0.0.1:{port}"), plan))
    assert outcomes(run) == {Outcome.CONNECTION: 20}
    assert (run.columns["send_ns"] == MISSING).all()
    assert run.failures["connection"].detail


def test_latency_counts_from_the_intended_instant_when_the_server_freezes() -> None:
    """One connection, one reply held back until ten later requests are due: all of them have waited."""
    release = asyncio.Event

    async def main() -> RawRun:
        gate = release()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                try:
                    await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    break
                await reader.readexactly(len(PAYLOAD.body))
                await gate.wait()
                writer.write(http().data)
            writer.close()

        def watch(now: Snapshot) -> None:
            if now.in_flight == 20:
                gate.set()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        plan = schedule.build("constant", 200, 0.1, 1)
        run = await engine.send(shot(url, connections=1), plan, watch)
        server.close()
        return run

    columns = asyncio.run(main()).columns
    latency_ns = columns["last_byte_ns"] - columns["due_ns"]
    assert (columns["outcome"] == Outcome.OK).all()
    assert latency_ns[0] >= columns["due_ns"][-1]  # it waited until the last one was due
    assert (latency_ns[:19] >= columns["due_ns"][-1] - columns["due_ns"][:19]).all()


def test_a_closed_loop_has_as_many_requests_in_flight_as_users() -> None:
    async def main() -> tuple[RawRun, StubServer]:
        async with serving(lambda _: http()) as (stub, url):
            return await engine.send(shot(url), Callers(3, 0.2)), stub

    run, stub = asyncio.run(main())
    assert run.peak_in_flight == 3
    assert stub.connections == 3
    assert len(run.columns["index"]) == len(stub.bodies) >= 3
    assert len(run.scheduled_ns) == 0
    assert outcomes(run) == {Outcome.OK: len(stub.bodies)}


def test_a_closed_loop_against_nobody_does_not_spin() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    run = asyncio.run(engine.send(shot(f"http://127.0.0.1:{port}"), Callers(2, 0.2)))
    assert outcomes(run).keys() == {Outcome.CONNECTION}
    assert len(run.columns["index"]) <= 2 * (0.2 / loops.RETRY_AFTER_FAILURE_S + 1)


def test_a_connection_that_opens_when_its_load_ends_does_not_hold_up_the_end() -> None:
    """uvloop closes what a cancelled task has just opened, and tells nobody: the end waited for ever."""

    async def main() -> None:
        driver = engine._AsyncioDriver(time.perf_counter_ns)
        async with serving(lambda _: http(200, b"12345")) as (_, url):
            pool = Pool(shot(url), time.perf_counter_ns, Measurements(), lambda _: None, driver.dial, driver.changed)
            opened = pool.opened

            def give_up(connection: Connection) -> None:
                opened(connection)
                for task in driver._dialling:
                    task.cancel()

            pool.opened = give_up  # type: ignore[method-assign]
            pool.open(1)
            while pool.dialling:
                await driver._change()
            async with asyncio.timeout(10):
                await driver._close(pool)
            assert not pool.connections

    event_loop.run(main())
