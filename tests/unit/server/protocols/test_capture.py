"""Data capture at the handlers: what is taken, of which model, which share, and nothing of failures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.errors import BadSetting
from server.observe.capture.feed import Feed
from server.observe.capture.record import Taken
from server.protocols import Handler, Responder
from server.protocols.capture import Capture, capture_of
from server.protocols.exchange import Exchange
from server.request import Head, InferRequest, Payload
from server.settings.options import Settings
from tests.fakes import FakeResponder

OPTIONS = {"to": "", "mode": "both", "redact": "", "body_bytes": 100, "disk_bytes": 10**9}


class ListFeed(Feed):
    """A feed that keeps what it takes in a list, and has no process."""

    def __init__(self) -> None:
        super().__init__(OPTIONS, 1_000)
        self.records: list[Taken] = []

    def take(self, taken: Taken) -> None:
        self.records.append(taken)


class Model:
    """What a record needs of a served model."""

    name, version = "digits", "7"


class Only:
    """The loaded models: one, by its name."""

    def default(self) -> Model:
        return Model()


DEFAULT: Any = Only()


def request(exchange: Any) -> InferRequest:
    return InferRequest((), 1, lambda _: None, exchange)


def ask(handler: Handler, body: bytes = b"[1]", responder: Responder | None = None) -> InferRequest | None:
    head = Head(b"POST", b"/invocations", [(b"content-type", b"application/json")])
    return handler(head, body, responder or FakeResponder())


def answering(status: int, later: list[Callable[[], None]] | None = None) -> Handler:
    """A handler that answers at once, or adds its answer to ``later``."""

    def handle(head: Head, body: bytes, responder: Responder) -> InferRequest:
        exchange = Exchange(Model(), head, responder, Payload((), 1))  # type: ignore[arg-type]

        def send() -> None:
            responder.send(status, b"text/csv", b"<" + body + b">", [(b"x", b"y")])

        if later is None:
            send()
        else:
            later.append(send)
        return request(exchange)

    return handle


@pytest.mark.parametrize("at_once", [True, False])
def test_request_and_response_are_taken_with_model_and_version(at_once: bool) -> None:
    feed, responder = ListFeed(), FakeResponder()
    later: list[Callable[[], None]] = []
    handler = Capture(feed, 100, DEFAULT).around(answering(200, None if at_once else later))
    pending = ask(handler, responder=responder)
    assert isinstance(pending, InferRequest)  # the connection marks it as abandoned
    for send in later:
        send()
    assert responder.responses == [(200, b"text/csv", b"<[1]>", [(b"x", b"y")])]
    ((time_ns, *rest),) = feed.records
    assert time_ns > 1.7e18
    headers = [(b"content-type", b"application/json")]
    assert rest == [b"digits", b"7", headers, b"[1]", b"text/csv", b"<[1]>", [(b"x", b"y")]]


def test_a_handler_that_returns_no_request_is_taken_under_the_route_s_name() -> None:
    feed = ListFeed()

    def handle(head: Head, body: bytes, responder: Responder) -> None:
        responder.send(200, b"text/plain", body)

    ask(Capture(feed, 100, DEFAULT).around(handle, "named"))
    ask(Capture(feed, 100, DEFAULT).around(handle))
    assert [record[1:3] for record in feed.records] == [(b"named", b""), (b"digits", b"")]


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_failures_are_passed_on_and_not_taken(status: int) -> None:
    feed, responder = ListFeed(), FakeResponder()
    ask(Capture(feed, 100, DEFAULT).around(answering(status)), responder=responder)
    assert responder.responses[0][0] == status
    assert feed.records == []


def test_the_share_of_requests() -> None:
    draws = iter([0.0, 0.29, 0.31, 0.99, 0.1])
    feed = ListFeed()
    handler = Capture(feed, 30, DEFAULT, lambda: next(draws)).around(answering(200))
    for number in range(5):
        ask(handler, b"%d" % number)
    assert [record[4] for record in feed.records] == [b"0", b"1", b"4"]


def test_calls_are_taken_with_their_media_type_and_other_requests_keep_their_responder() -> None:
    draws = iter([0.1, 0.9])
    feed, responder, model = ListFeed(), FakeResponder(), Model()
    capture = Capture(feed, 50, DEFAULT, lambda: next(draws))
    call = Head(b"POST", b"/inference.GRPCInferenceService/ModelInfer", [(b"id", b"1")])
    tapped, left_out = (capture.call(model, call, b"asked", responder) for _ in range(2))  # type: ignore[arg-type]
    assert left_out is responder
    other = Head(b"POST", b"/invocations", [])
    assert capture.call(model, other, b"asked", responder) is responder  # type: ignore[arg-type]
    tapped.send(200, b"application/grpc", b"answered")
    headers = [(b"id", b"1"), (b"content-type", b"application/grpc")]
    ((_, *taken),) = feed.records
    assert taken == [b"digits", b"7", headers, b"asked", b"application/grpc", b"answered", []]
    assert len(responder.responses) == 1


def test_streams_are_taken_as_one_body() -> None:
    feed, responder = ListFeed(), FakeResponder(streams=True)
    outlets = []

    def handle(head: Head, body: bytes, responder: Responder) -> None:
        outlets.append(responder.begin_stream(200, b"text/csv", [], None))  # type: ignore[arg-type]

    ask(Capture(feed, 100, DEFAULT).around(handle), responder=responder)
    (outlet,) = outlets
    assert outlet is not None
    outlet.write(b"1\n")
    outlet.write(b"2\n")
    assert feed.records == []
    outlet.end()
    assert [record[6] for record in feed.records] == [b"1\n2\n"]


def test_a_full_queue_and_large_bodies_drop_and_count() -> None:
    feed = Feed(OPTIONS, 1_000)
    record: Taken = (0, b"m", b"", [], b"x" * 50, b"", b"y" * 50, [])
    for _ in range(20):
        feed.take(record)
    assert 1_000 < feed.waiting_bytes < 1_400
    assert feed.dropped["queue_full"] > 10
    feed.take((0, b"m", b"", [], b"x" * 101, b"", b"", []))
    feed.take((0, b"m", b"", [], b"", b"", b"x" * 101, []))
    assert feed.dropped["too_large"] == 2


def test_places_that_cannot_be_captured_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for to, text in (
        (str(tmp_path / "file"), "name a folder"),
        ("gs://bucket", "no folder and no s3"),
        ("s3:///prefix", "names no bucket"),
    ):
        with pytest.raises(BadSetting, match=text):
            capture_of(Settings(capture_to=to), DEFAULT)
    with pytest.raises(BadSetting, match="at most 100"):
        capture_of(Settings(capture_to=str(tmp_path), capture_percent=101), DEFAULT)
