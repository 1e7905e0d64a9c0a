"""Scrapes: figures are copied on the event loop, a few models a turn, and formatted on another thread."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from server.observe.exposition import Exposition
from server.observe.metrics import CONTENT_TYPE, OPENMETRICS, Metrics, ModelMetrics
from server.protocols import metrics as route
from server.protocols.listing import IN_A_TURN
from server.protocols.metrics import Scrapes, alone, prefers_openmetrics
from server.request import Head
from tests.fakes import FakeClock, FakeResponder

HEAD = Head(b"GET", b"/metrics", [])


class Clients:
    """Scrapes of one server, by clients that wait for their responses."""

    def __init__(self, models: int = 1) -> None:
        self.metrics = Metrics(lambda: True, "1")
        for number in range(models):
            self.metrics.add(ModelMetrics(f"m{number}", "1"))
        self.clock = FakeClock(100.0)
        self.scrapes = Scrapes(alone(self.metrics), self.clock.seconds)

    def ask(self) -> asyncio.Future[bytes]:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.scrapes.scrape(HEAD, b"", FakeResponder(sent=lambda _, body: answered.set_result(body)))
        return answered


def test_figures_are_formatted_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    text = Exposition.text

    def noted(self: Exposition, openmetrics: bool) -> bytes:
        threads.append(threading.get_ident())
        return text(self, openmetrics)

    monkeypatch.setattr(Exposition, "text", noted)

    async def scenario() -> bytes:
        return await Clients().ask()

    assert b'slipway_queue_rows{model="m0",version="1"} 0.0' in asyncio.run(scenario())
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_the_loop_goes_on_between_the_copies_of_many_models(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    copy = ModelMetrics.copied

    def noted(self: ModelMetrics) -> ModelMetrics:
        copied.append(self.labels[0])
        return copy(self)

    monkeypatch.setattr(ModelMetrics, "copied", noted)
    seen: list[int] = []

    async def scenario() -> bytes:
        clients = Clients(3 * IN_A_TURN)
        answered = clients.ask()
        while not answered.done():
            seen.append(len(copied))
            await asyncio.sleep(0)
        return answered.result()

    text = asyncio.run(scenario())
    assert all(f'slipway_queue_rows{{model="m{number}"'.encode() in text for number in range(3 * IN_A_TURN))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= IN_A_TURN


def test_a_long_text_is_sent_again_within_a_second_and_a_short_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(kept_bytes: int) -> list[bool]:
        monkeypatch.setattr(route, "KEPT_BYTES", kept_bytes)
        clients = Clients()
        first = await clients.ask()
        clients.metrics.refused["no"] += 1
        clients.clock.now_s += 0.9
        again = await clients.ask()
        clients.clock.now_s += 0.2
        later = await clients.ask()
        return [b'code="no"' in text for text in (first, again, later)]

    assert asyncio.run(scenario(0)) == [False, False, True]
    assert asyncio.run(scenario(1 << 30)) == [False, True, True]


def test_scrapes_that_arrive_meanwhile_share_the_next_text(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    text = Exposition.text

    def noted(self: Exposition, openmetrics: bool) -> bytes:
        made.append(1)
        return text(self, openmetrics)

    monkeypatch.setattr(Exposition, "text", noted)

    async def scenario() -> None:
        clients = Clients()
        texts = await asyncio.gather(*(clients.ask() for _ in range(10)))
        assert all(b"slipway_ready 1.0" in one for one in texts)

    asyncio.run(scenario())
    assert len(made) == 2


def test_a_model_that_cannot_be_read_is_left_out() -> None:
    def broken() -> Any:
        raise OSError("its process has ended")

    async def scenario() -> bytes:
        clients = Clients(2)
        next(iter(clients.metrics._models.values())).worker_bytes = broken
        return await clients.ask()

    text = asyncio.run(scenario())
    assert b'model="m1"' in text
    assert b'model="m0"' not in text


def test_a_failure_is_a_response_and_the_next_scrape_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> tuple[bytes, bytes]:
        clients = Clients()
        with monkeypatch.context() as patch:
            patch.setattr(Exposition, "text", lambda self: 1 / 0)
            failed = await clients.ask()
        return failed, await clients.ask()

    failed, later = asyncio.run(scenario())
    assert b'"code":"internal"' in failed
    assert b"slipway_ready" in later


def test_a_copy_does_not_change() -> None:
    model = ModelMetrics("m", "1")
    waiting = [3]
    model.waiting_rows = lambda: waiting[0]
    model.answers["ok"] = 1
    one = model.copied()
    waiting[0] = 4
    model.answers["ok"] = 2
    assert (one.waiting_rows(), one.answers["ok"]) == (3, 1)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (b"", False),
        (b"*/*", False),
        (b"text/plain", False),
        (b"application/openmetrics-text", True),
        (b"application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        (b"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1", True),
        (b"application/openmetrics-text;q=0.3, text/plain;q=0.9", False),
        (b"Application/OpenMetrics-Text;q=0", False),
        (b"application/openmetrics-text;q=nonsense", False),
    ],
)
def test_the_form_is_the_one_that_the_client_prefers(accept: bytes, openmetrics: bool) -> None:
    assert prefers_openmetrics(accept) is openmetrics


def _set(answered: asyncio.Future[bytes], _status: int, body: bytes) -> None:
    answered.set_result(body)


def test_clients_of_both_forms_are_answered_side_by_side() -> None:
    async def scenario() -> list[tuple[bytes, bytes]]:
        clients, found = Clients(), []

        class Kept(FakeResponder):
            def send(self, status: int, content_type: bytes, body: bytes, *headers: Any) -> None:
                found.append((content_type, body))
                super().send(status, content_type, body, *headers)

        waiting = []
        for accept in (b"application/openmetrics-text", b"text/plain"):
            answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            waiting.append(answered)
            head = Head(b"GET", b"/metrics", [(b"accept", accept)])
            clients.scrapes.scrape(head, b"", Kept(sent=partial(_set, answered)))
        await asyncio.gather(*waiting)
        return found

    found = dict(asyncio.run(scenario()))
    assert found[OPENMETRICS].endswith(b"# EOF\n")
    assert list(openmetrics_families(found[OPENMETRICS].decode()))  # type: ignore[no-untyped-call]
    assert b"# EOF" not in found[CONTENT_TYPE]
