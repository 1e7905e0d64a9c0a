"""Batches over real sockets: neighbours, poison, shapes, deadlines, overload, clients that leave."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import (
    Answer,
    ServerProcess,
    eventually,
    instances,
    post_bytes,
    read_answers,
    reset,
)

TIMED = "Content-Type: application/json\r\nX-Slipway-Timing: 1\r\n"
POISON, EXIT = 666.0, 667.0


def row(value: float) -> list[float]:
    return [value, value + 1, value + 2, value + 3]


def doubled(answer: Answer, value: float) -> bool:
    return answer.status == 200 and answer.json() == {"predictions": [[2 * one for one in row(value)]]}


def batch_of(answer: Answer) -> int:
    return int(answer.headers["server-timing"].rpartition('desc="')[2].rstrip('"'))


def rows_run(server: ServerProcess) -> float:
    return server.samples()["slipway_batch_rows_sum"]


def outcome(server: ServerProcess, name: str) -> float:
    return server.samples().get(f"slipway_requests_total{{outcome={name}}}", 0.0)


class Crowd:
    """One request that occupies the model, and others that are sent while it runs: they will share the next batch."""

    def __init__(self, server: ServerProcess, values: list[float]) -> None:
        self._stack = ExitStack()
        self._blocker = self._open(server)
        self.clients = [self._open(server) for _ in values]
        self._blocker.sendall(post_bytes(instances(row(0))))
        for client, value in zip(self.clients, values, strict=True):
            client.sendall(post_bytes(instances(row(value)), headers=TIMED))

    def _open(self, server: ServerProcess) -> socket.socket:
        return self._stack.enter_context(server.connect())

    def unblocked(self) -> None:
        """Wait until the first has been answered, and the batch of the others has begun."""
        assert doubled(read_answers(self._blocker, 1)[0], 0)

    def answers(self) -> list[Answer]:
        return [read_answers(client, 1)[0] for client in self.clients]

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def test_requests_that_wait_together_run_together_and_get_their_own_rows(waiting_server: ServerProcess) -> None:
    def shared() -> bool:
        values = [10.0, 20.0, 30.0, 40.0]
        with Crowd(waiting_server, values) as crowd:
            answers = crowd.answers()
        assert all(map(doubled, answers, values))
        return max(map(batch_of, answers)) > 1

    assert eventually(shared, "requests sent together share a batch")


@pytest.mark.parametrize("moment", ["waiting", "running"])
def test_when_one_client_of_a_batch_resets_its_neighbours_are_still_answered(
    waiting_server: ServerProcess, moment: str
) -> None:
    gone = outcome(waiting_server, "client_gone") + outcome(waiting_server, "ok")
    with Crowd(waiting_server, [1.0, 2.0, 3.0]) as crowd:
        if moment == "running":
            crowd.unblocked()
        reset(crowd.clients.pop(1))
        first, third = crowd.answers()
    assert doubled(first, 1)
    assert doubled(third, 3)

    def all_accounted() -> bool:
        return outcome(waiting_server, "client_gone") + outcome(waiting_server, "ok") >= gone + 3

    eventually(all_accounted, "the request of the client that left is accounted for")


def test_an_abandoned_request_is_not_run(waiting_server: ServerProcess) -> None:
    def spared() -> bool:
        before = rows_run(waiting_server)
        with Crowd(waiting_server, [1.0, 2.0, 3.0]) as crowd:
            crowd.clients.pop(0).close()
            reset(crowd.clients.pop(0))
            crowd.unblocked()
            assert doubled(crowd.answers()[0], 3)
        return rows_run(waiting_server) - before == 2

    assert eventually(spared, "only the requests of the clients that stayed are run")


@pytest.mark.parametrize("bad", [POISON, EXIT])
def test_a_poisoned_request_fails_alone(waiting_server: ServerProcess, bad: float) -> None:
    values = [1.0, 2.0, bad, 4.0, 5.0]
    with Crowd(waiting_server, values) as crowd:
        answers = crowd.answers()
    assert (answers[2].status, answers[2].code) == (500, "model_failed")
    assert all(doubled(answers[index], values[index]) for index in (0, 1, 3, 4))
    assert waiting_server.get("/ping").status == 200


@pytest.mark.parametrize("bad", [POISON, EXIT])
def test_a_model_that_raises_on_the_event_loop_fails_its_request_and_nothing_else(
    inline_server: ServerProcess, bad: float
) -> None:
    with inline_server.connect() as client:
        client.sendall(b"".join(post_bytes(instances(row(value))) for value in (1.0, bad, 2.0)))
        good, failed, after = read_answers(client, 3)
    assert doubled(good, 1)
    assert (failed.status, failed.code) == (500, "model_failed")
    assert doubled(after, 2)


def open_inference(value: float, timeout_us: float) -> bytes:
    data = ",".join(str(one) for one in row(value))
    tensor = f'{{"name":"x","shape":[1,4],"datatype":"FP32","data":[{data}]}}'
    return f'{{"inputs":[{tensor}],"parameters":{{"timeout":{timeout_us}}}}}'.encode()


def test_a_request_whose_deadline_cannot_be_met_is_refused_and_never_run(waiting_server: ServerProcess) -> None:
    before = rows_run(waiting_server)
    with Crowd(waiting_server, []) as crowd, waiting_server.connect() as one, waiting_server.connect() as other:
        one.sendall(post_bytes(instances(row(1)), headers="X-Request-Deadline-Ms: 20\r\nContent-Type: text/json\r\n"))
        (wrong_type,) = read_answers(one, 1)
        one.sendall(
            post_bytes(instances(row(1)), headers="Content-Type: application/json\r\nX-Request-Deadline-Ms: 20\r\n")
        )
        other.sendall(post_bytes(open_inference(1, 20_000), "/v2/models/fake/infer", ""))
        answers = [*read_answers(one, 1), *read_answers(other, 1)]
        crowd.unblocked()
    assert wrong_type.status == 415
    for answer in answers:
        assert (answer.status, answer.code) in ((429, "overloaded"), (504, "deadline_exceeded"))
        assert answer.status == 504 or int(answer.headers["retry-after"]) >= 1
    assert rows_run(waiting_server) == before + 1


def test_a_generous_deadline_is_met(waiting_server: ServerProcess) -> None:
    answer = waiting_server.post("/invocations", {"instances": [row(1)]}, {"X-Request-Deadline-Ms": "30000"})
    assert doubled(answer, 1)
    answer = waiting_server.post("/v2/models/fake/infer", open_inference(1, 30e6))
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6, 8]


@pytest.mark.parametrize("deadline", ["soon", "-1", "0", "nan", "inf", ""])
def test_a_deadline_that_is_none_is_malformed(waiting_server: ServerProcess, deadline: str) -> None:
    answer = waiting_server.post("/invocations", {"instances": [row(1)]}, {"X-Request-Deadline-Ms": deadline})
    assert (answer.status, answer.code) == (400, "malformed_input")


STALL = 668.0


def test_a_model_whose_run_does_not_end_turns_the_server_unready_and_its_requests_end(
    serve: Serve, tmp_path: Path
) -> None:
    model = sample_models.fake(tmp_path / "model", stall=STALL, wait_us=1_000, batch_sizes=(1,))
    server = serve(model, "--stall-s", "1", "--inline-below-us", "0").ready()
    with server.connect() as stuck, server.connect() as waiting:
        stuck.sendall(post_bytes(instances(row(STALL))))
        eventually(lambda: server.samples()["slipway_queue_rows"] == 0, "the run has begun")
        waiting.sendall(post_bytes(instances(row(1))))
        (first,), (second,) = read_answers(stuck, 1), read_answers(waiting, 1)
    assert {(one.status, one.code) for one in (first, second)} == {(503, "not_ready")}
    ping = server.get("/ping")
    assert (ping.status, ping.code) == (503, "not_ready")
    assert "'fake' makes no progress" in ping.json()["error"]
    assert server.get("/v2/health/ready").status == 503
    assert server.get("/v2/models/fake/ready").status == 503
    assert server.get("/v2/health/live").status == 200
    assert server.post("/invocations", {"instances": [row(1)]}).status == 503
    assert server.samples()["slipway_ready"] == 0


def test_a_deadline_that_an_idle_server_cannot_meet_is_504_and_says_nothing_of_coming_back(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(sample_models.fake(tmp_path / "model", wait_us=50_000), "--inline-below-us", "0").ready()
    answer = server.post("/invocations", {"instances": [row(1)]}, {"X-Request-Deadline-Ms": "10"})
    assert (answer.status, answer.code) == (504, "deadline_exceeded")
    assert "retry-after" not in answer.headers


def test_a_server_on_the_ipv6_wildcard_serves_both_families(serve: Serve, tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no sockets for both families")
    server = serve(sample_models.fake(tmp_path / "model"), "--host", "::").ready()
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, server.port), timeout=10) as client:
            client.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answers(client, 1)[0].status == 200


QUEUE_MS, RUN_US, BATCH, CONNECTIONS = 100, 20_000, 4, 240
"""A run of 4 rows takes 20 ms, so 100 ms of queue hold 20 rows: 240 requests at once are ten times what may wait."""


def test_ten_times_overload_gives_only_200_and_429_in_flat_memory_with_goodput_kept(
    serve: Serve, tmp_path: Path
) -> None:
    model = sample_models.fake(tmp_path / "model", wait_us=RUN_US, batch_sizes=(1, 2, BATCH))
    server = serve(model, "--max-queue-ms", str(QUEUE_MS)).ready()
    calm, calm_rate = asyncio.run(closed_loop(server, BATCH, 60))
    assert set(calm) == {200}
    overload, rate = asyncio.run(closed_loop(server, CONNECTIONS, 60))
    settled = server.rss_bytes()
    again, _ = asyncio.run(closed_loop(server, CONNECTIONS, 60))
    assert set(overload) == set(again) == {200, 429}
    assert overload[429] > overload[200]
    assert rate > 0.3 * calm_rate
    assert server.rss_bytes() < settled + 30e6
    assert server.get("/ping").status == 200
    assert doubled(server.post("/invocations", {"instances": [row(1)]}), 1)


async def closed_loop(server: ServerProcess, connections: int, wanted: int) -> tuple[Counter[int], float]:
    """Every connection asks again as soon as it is answered, until ``wanted`` answers were good.

    Returns statuses, and good answers a second. Each refusal has to name a time to try again.
    """
    statuses: Counter[int] = Counter()
    begun = time.perf_counter()
    request = post_bytes(instances(row(1)))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while statuses[200] < wanted:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            status = int(head.split()[1])
            assert status != 429 or b"\r\nretry-after: " in head
            statuses[status] += 1
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(connections)))
    return statuses, statuses[200] / (time.perf_counter() - begun)


def test_a_storm_of_clients_that_leave_leaks_nothing(waiting_server: ServerProcess) -> None:
    eventually(lambda: waiting_server.samples()["slipway_queue_rows"] == 0, "nothing waits")
    before, logged = waiting_server.descriptors(), len(waiting_server.log())
    for _ in range(3):
        clients = [waiting_server.connect() for _ in range(60)]
        for number, client in enumerate(clients):
            path = "/invocations?cold" if number % 4 == 0 else "/invocations"
            data = post_bytes(instances(row(1)), path)
            client.sendall(data[:-10] if number % 3 == 0 else data)
        for number, client in enumerate(clients):
            if number % 2:
                client.close()
            else:
                reset(client)
    eventually(lambda: waiting_server.samples()["slipway_queue_rows"] == 0, "nothing waits any more")
    # The one connection of the look itself may or may not be counted.
    eventually(lambda: waiting_server.descriptors() <= before + 1, "all connections are gone")
    assert doubled(waiting_server.post("/invocations", {"instances": [row(3)]}), 3)
    assert "Traceback" not in waiting_server.log()[logged:]
