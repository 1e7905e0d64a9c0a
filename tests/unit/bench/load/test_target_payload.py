"""URLs and payloads: what is meant is found, what is wrong is said in one line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bench import arguments
from bench.errors import Unusable
from bench.load import payload, target, wire
from bench.load.server_timing import CARRIERS


@pytest.mark.parametrize(
    ("given", "url", "model"),
    [
        ("http://h:8080", "http://h:8080/invocations", None),
        ("h:8080/", "http://h:8080/invocations", None),
        ("https://h", "https://h/invocations", None),
        ("http://h/v2/models/digits/infer?x=1", "http://h/v2/models/digits/infer?x=1", "digits"),
        ("http://[::1]:80/ping", "http://[::1]/ping", None),
    ],
)
def test_a_url_is_completed(given: str, url: str, model: str | None) -> None:
    found = target.parse(given)
    assert (found.url, found.model) == (url, model)
    assert target.parse(found.url) == found


@pytest.mark.parametrize(
    "given",
    ["", "ftp://h", "http://", "http://h:port", "http://h:99999", "http://u:p@h", "http://h/\r\nX: y", 'http://h/"'],
)
def test_a_wrong_url_is_refused(given: str) -> None:
    with pytest.raises(Unusable, match="URL"):
        target.parse(given)


def test_a_request_on_the_wire() -> None:
    made = wire.render(target.parse("h:8080"), payload.Payload("p", "text/csv", b"1,2\n"), CARRIERS["header"])
    head, body = made.numbered(7).split(b"\r\n\r\n")
    assert made.body_bytes == 4
    assert body == b"1,2\n"
    assert head.split(b"\r\n") == [
        b"POST /invocations HTTP/1.1",
        b"Host: h:8080",
        b"Content-Type: text/csv",
        b"Content-Length: 4",
        b"Accept: */*",
        b"X-Slipway-Timing: 1",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.json", "application/json"), ("a.NPY", "application/x-npy"), ("a.bin", "application/octet-stream")],
)
def test_the_suffix_says_the_content_type(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    assert payload.read(path).content_type == kind
    assert payload.read(path, "text/plain").content_type == "text/plain"


def test_an_unusable_payload_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_bytes(b"")
    (tmp_path / "full.json").write_bytes(b"{}")
    for path, kind in (("missing.json", None), ("empty.json", None), (".", None), ("full.json", "a\r\nb: c")):
        with pytest.raises(Unusable):
            payload.read(tmp_path / path, kind)


@pytest.mark.parametrize(
    ("known", "asked", "url"),
    [
        (("digits",), None, "http://h:8080/v2/models/digits/infer"),
        (("a", "b"), "b", "http://h:8080/v2/models/b/infer"),
        (None, None, "http://h:8080/invocations"),  # no repository index: the path stays
    ],
)
def test_a_bare_server_is_asked_for_its_model(
    known: tuple[str, ...] | None, asked: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.load.probe.models", lambda _place: known)
    found = arguments._with_model(argparse.Namespace(model=asked), target.parse("h:8080"))
    assert found.url == url


@pytest.mark.parametrize("known", [("a", "b"), ()])
def test_a_choice_of_models_is_the_users(known: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.probe.models", lambda _place: known)
    with pytest.raises(Unusable, match="--model NAME"):
        arguments._with_model(argparse.Namespace(model=None), target.parse("h:8080"))


def test_a_path_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.probe.models", lambda _place: ("digits",))
    place = target.parse("h:8080/predict")
    assert arguments._with_model(argparse.Namespace(model=None), place) == place


def test_an_unknown_model_is_named_with_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.probe.models", lambda _place: ("a", "b"))
    monkeypatch.setattr("bench.load.probe.metadata", lambda *_: None)
    monkeypatch.setattr("bench.load.probe.reach", lambda _place: None)
    asked = argparse.Namespace(
        payload=[], samples=None, model=None, binary=False, seed=1, method="POST", content_type=None
    )
    with pytest.raises(Unusable, match=r"no model 'c' \(404\); it has a, b"):
        arguments.payloads(asked, target.parse("h:8080/v2/models/c/infer"))
