"""Data capture at the handlers: what is taken, of which model, which share, and nothing of failures."""

from __future__ import annotations

import marshal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.codecs.json import Json
from server.errors import BadSetting, SlipwayError
from server.observe.capture.feed import CHUNK_BYTES, PAUSE_S, Feed
from server.observe.capture.record import Taken
from server.observe.metrics import ModelMetrics
from server.protocols import Responder
from server.protocols.capture import Capture, capture_of
from server.protocols.inference import infer
from server.request import Head, InferRequest
from server.settings.options import Settings
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.fakes import FakeLoop, FakeResponder

SPEC = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 2)),), (TensorSpec("y", BY_NAME["FP32"], (-1, 2)),))
OPTIONS = {"to": "", "mode": "both", "redact": "", "body_bytes": 100, "disk_bytes": 10**9}


class ListFeed(Feed):
    """A feed that keeps what it takes in a list, and has no process."""

    def __init__(self) -> None:
        super().__init__(OPTIONS, 1_000, FakeLoop().call_later)
        self.records: list[Taken] = []

    def take(self, taken: Taken) -> None:
        self.records.append(taken)


def handed_over(feed: Feed) -> list[Taken]:
    """The records that the thread would carry now."""
    chunks = [feed._chunks.get() for _ in range(feed._chunks.qsize())]
    return [marshal.loads(record) for chunk in chunks if chunk is not None for record in chunk[0]]


class Submitted:
    """A scheduler that keeps what it gets."""

    refusing = False

    def __init__(self) -> None:
        self.requests: list[InferRequest] = []


class Model(SimpleNamespace):
    """A model that doubles its rows when it is asked to."""

    def __init__(self, capture: Capture | None) -> None:
        super().__init__(
            name="digits",
            version="7",
            spec=SPEC,
            metrics=ModelMetrics("digits", "7"),
            max_rows=10,
            cache=None,
            watch=None,
            trace=None,
            deadline_ns=0,
            scheduler=Submitted(),
            capture=capture,
        )

    def submit(self, request: InferRequest) -> None:
        self.scheduler.requests.append(request)

    def answer(self) -> None:
        for request in self.scheduler.requests:
            request.outputs = [2 * request.arrays[0]]
            request.end()


def ask(model: Model, body: bytes = b"[[1,2]]", responder: Responder | None = None) -> None:
    """A request to a model of tensors, and its response."""
    head = Head(b"POST", b"/invocations", [(b"content-type", b"application/json")])
    infer(cast(Any, model), head, body, responder or FakeResponder(), Json(), Json())
    model.answer()


def test_request_and_response_are_taken_with_model_and_version() -> None:
    feed, responder = ListFeed(), FakeResponder()
    ask(Model(Capture(feed, 100)), responder=responder)
    ((status, content_type, answer, told),) = responder.responses
    assert status == 200
    ((time_ns, *rest),) = feed.records
    assert time_ns > 1.7e18
    headers = [(b"content-type", b"application/json")]
    assert rest == ["digits", "7", headers, b"[[1,2]]", content_type, answer, told]
    assert b"2.0,4.0" in answer


@pytest.mark.parametrize("body", [b"nonsense", b"[[1,2,3]]"])
def test_refused_requests_are_not_taken(body: bytes) -> None:
    feed, responder = ListFeed(), FakeResponder()
    ask(Model(Capture(feed, 100)), body, responder)
    assert responder.responses[0][0] in (400, 422)
    assert feed.records == []


def test_failures_are_not_taken() -> None:
    feed, responder = ListFeed(), FakeResponder()
    model = Model(Capture(feed, 100))
    head = Head(b"POST", b"/invocations", [])
    infer(cast(Any, model), head, b"[[1,2]]", responder, Json(), Json())
    (request,) = model.scheduler.requests
    request.error = SlipwayError("it failed")
    request.end()
    assert responder.responses[0][0] == 500
    assert feed.records == []


def test_the_share_of_requests() -> None:
    draws = iter([0.0, 0.29, 0.31, 0.99, 0.1])
    feed = ListFeed()
    for number in range(5):
        model = Model(Capture(feed, 30, lambda: next(draws)))
        ask(model, b"[[1,%d]]" % number)
    assert [record[4] for record in feed.records] == [b"[[1,0]]", b"[[1,1]]", b"[[1,4]]"]


def test_calls_are_taken_with_their_media_type() -> None:
    feed = ListFeed()
    model = cast(Any, Model(None))
    Capture(feed, 100).take(model, [(b"id", b"1")], b"asked", b"application/grpc", b"answered", [])
    headers = [(b"id", b"1"), (b"content-type", b"application/grpc")]
    ((_, *taken),) = feed.records
    assert taken == ["digits", "7", headers, b"asked", b"application/grpc", b"answered", []]


@pytest.mark.parametrize(("status", "count"), [(200, 1), (202, 1), (400, 0), (429, 0), (500, 0), (503, 0)])
def test_responses_of_scripts_are_passed_on_and_successes_are_taken(status: int, count: int) -> None:
    feed, responder = ListFeed(), FakeResponder()
    head = Head(b"POST", b"/invocations", [])
    tap = Capture(feed, 100).around(cast(Any, Model(None)), head, b"asked", responder)
    tap.send(status, b"text/plain", b"answered", [(b"x", b"y")])
    assert responder.responses == [(status, b"text/plain", b"answered", [(b"x", b"y")])]
    assert [record[4] for record in feed.records] == [b"asked"] * count
    assert Capture(feed, 0).around(cast(Any, Model(None)), head, b"asked", responder) is responder


def test_streams_are_taken_as_one_body() -> None:
    feed, responder = ListFeed(), FakeResponder(streams=True)
    head = Head(b"POST", b"/invocations", [])
    tap = Capture(feed, 100).around(cast(Any, Model(None)), head, b"", responder)
    outlet = tap.begin_stream(200, b"text/csv", [], cast(Any, None))
    assert outlet is not None
    outlet.write(b"1\n")
    outlet.write(b"2\n")
    assert feed.records == []
    outlet.end()
    assert [record[6] for record in feed.records] == [b"1\n2\n"]


def test_a_full_queue_and_large_bodies_drop_and_count() -> None:
    feed = Feed(OPTIONS, 1_000, FakeLoop().call_later)
    record: Taken = (0, "m", "", [], b"x" * 50, b"", b"y" * 50, [])
    for _ in range(20):
        feed.take(record)
    assert 1_000 < feed.waiting_bytes < 1_400
    assert feed.dropped["queue_full"] > 10
    feed.take((0, "m", "", [], b"x" * 101, b"", b"", []))
    feed.take((0, "m", "", [], b"", b"", b"x" * 101, []))
    assert feed.dropped["too_large"] == 2


def test_a_chunk_is_handed_over_soon_or_when_it_is_large() -> None:
    loop = FakeLoop()
    feed = Feed({**OPTIONS, "body_bytes": 10**6}, 10**7, loop.call_later)
    feed.take((0, "m", "", [], b"first", b"", b"", []))
    feed.take((0, "m", "", [], b"second", b"", b"", []))
    assert handed_over(feed) == []
    loop.advance(int(PAUSE_S * 1e9))
    assert [one[4] for one in handed_over(feed)] == [b"first", b"second"]
    for _ in range(2):
        feed.take((0, "m", "", [], bytes(CHUNK_BYTES * 2 // 3), b"", b"", []))
    assert len(handed_over(feed)) == 2
    loop.advance(int(PAUSE_S * 1e9))
    assert handed_over(feed) == []


def test_places_that_cannot_be_captured_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for to, text in (
        (str(tmp_path / "file"), "name a folder"),
        ("gs://bucket", "no folder and no s3"),
        ("s3:///prefix", "names no bucket"),
    ):
        with pytest.raises(BadSetting, match=text):
            capture_of(Settings(capture_to=to), FakeLoop().call_later)
    with pytest.raises(BadSetting, match="at most 100"):
        capture_of(Settings(capture_to=str(tmp_path), capture_percent=101), FakeLoop().call_later)
