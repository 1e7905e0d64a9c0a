"""Media types: parsed by the RFC, negotiated by weight, remembered within bounds."""

from __future__ import annotations

import pytest

from server.codecs.media import CODECS, Negotiator, parse_media_type
from server.errors import NotAcceptable, UnsupportedMedia


def test_a_media_type_is_taken_apart() -> None:
    media = parse_media_type(' Text/CSV ; Charset="utf-8"; note="a;\\"b" ;')
    assert media.name == "text/csv"
    assert media.parameters == {"charset": "utf-8", "note": 'a;"b'}


@pytest.mark.parametrize("text", ["", "text", "/csv", "text/", "a b/c", "text/csv; charset", 'text/csv; a="b', "é/x"])
def test_what_is_no_media_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_media_type(text)
    with pytest.raises(UnsupportedMedia):
        Negotiator().negotiate(text.encode("latin-1"), None)


@pytest.mark.parametrize(
    ("content_type", "reader"),
    [
        (b"application/json", "Json"),
        (b"APPLICATION/JSON; charset=utf-8", "Json"),
        (b"text/csv", "Csv"),
        (b"application/x-npy", "Npy"),
        (b"application/x-npz", "Npz"),
        (b"application/vnd.sagemaker-triton.binary+json;json-header-size=12", "OpenInference"),
    ],
)
def test_the_content_type_chooses_the_reader(content_type: bytes, reader: str) -> None:
    assert type(Negotiator().negotiate(content_type, None).reader).__name__ == reader


def test_parameters_reach_the_reader() -> None:
    assert Negotiator().negotiate(b"text/csv; charset=latin-1", None).parameters == {"charset": "latin-1"}


def test_a_missing_content_type_needs_a_default() -> None:
    with pytest.raises(UnsupportedMedia, match="missing; supported are application/json, text/csv"):
        Negotiator().negotiate(None, None)
    assert Negotiator(default_content_type="text/csv").negotiate(b"", None).reader is CODECS[1]


def test_an_unknown_content_type_lists_what_is_supported() -> None:
    with pytest.raises(UnsupportedMedia, match='"image/tiff" is not supported; application/json, '):
        Negotiator().negotiate(b"image/tiff", None)


@pytest.mark.parametrize(
    ("accept", "writer"),
    [
        (None, "Json"),
        (b"", "Json"),
        (b"*/*", "Json"),
        (b"text/csv", "Csv"),
        (b"TEXT/CSV; q=0.5", "Csv"),
        (b"text/csv, application/json", "Csv"),
        (b"application/json;q=0.9, text/csv;q=0.1", "Json"),
        (b"application/json;q=0.1, text/csv;q=0.9", "Csv"),
        (b"text/*", "Csv"),
        (b"image/png, */*;q=0.1", "Json"),
        (b"application/json;q=0, */*", "Csv"),
        (b"application/*, application/json;q=0", "Npy"),
        (b"application/x-npz, nonsense, ;;", "Npz"),
        (b"text/csv;q=2, application/x-npy", "Npy"),
        (b'text/csv;note="a,b;q=0", application/x-npy;q=0.5', "Csv"),
    ],
)
def test_accept_chooses_the_writer(accept: bytes | None, writer: str) -> None:
    assert type(Negotiator().negotiate(b"application/json", accept).writer).__name__ == writer


@pytest.mark.parametrize("accept", [b"image/png", b"application/json;q=0", b"nonsense", b"text/csv;q=x"])
def test_what_nobody_writes_is_not_acceptable(accept: bytes) -> None:
    with pytest.raises(NotAcceptable, match="cannot be served; application/json, "):
        Negotiator().negotiate(b"application/json", accept)


def test_the_default_accept_is_configurable() -> None:
    negotiator = Negotiator(default_accept="image/png, text/csv")
    for accept in (None, b"*/*"):
        assert type(negotiator.negotiate(b"application/json", accept).writer).__name__ == "Csv"
    assert type(negotiator.negotiate(b"application/json", b"*/*;q=0.5").writer).__name__ == "Csv"
    with pytest.raises(NotAcceptable):
        Negotiator(default_accept="image/png")
    with pytest.raises(UnsupportedMedia):
        Negotiator(default_content_type="image/tiff")


def test_what_was_chosen_is_remembered_within_bounds() -> None:
    negotiator = Negotiator()
    first = negotiator.negotiate(b"application/json", b"*/*")
    assert negotiator.negotiate(b"application/json", b"*/*") is first
    for index in range(3000):
        negotiator.negotiate(b"application/json; n=%d" % index, None)
    assert len(negotiator._remembered) <= 1024
