"""URLs and payloads: what is meant is found, what is wrong is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

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
