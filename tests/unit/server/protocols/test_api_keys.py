"""API keys: where a request may carry one, which are known, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.errors import BadSetting, Unauthorized
from server.observe.metrics import Metrics
from server.protocols import Responder
from server.protocols.api_keys import MOST_KEYS, ApiKeys
from server.request import Head, Headers, InferRequest


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: True, "0")


@pytest.fixture
def keys(tmp_path: Path, metrics: Metrics) -> ApiKeys:
    (tmp_path / "keys").write_bytes(b"# ours\nfirst-key\r\n\n  second-key  \n")
    return ApiKeys(tmp_path / "keys", metrics)


def head(*headers: tuple[bytes, bytes]) -> Head:
    return Head(b"POST", b"/invocations", list(headers))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer first-key")],
        [(b"authorization", b"bearer  second-key ")],
        [(b"x-api-key", b"second-key")],
        [(b"authorization", b"Bearer another-token"), (b"x-api-key", b"first-key")],
        [(b"authorization", b"Bearer first-key"), (b"x-api-key", b"wrong")],
        [(b"authorization", b"Basic Zm9v"), (b"x-api-key", b"first-key")],
    ],
)
def test_a_known_key_passes_in_either_field(keys: ApiKeys, headers: Headers) -> None:
    keys.check(head(*headers))


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ([], "no API key"),
        ([(b"x-api-key", b"")], "no API key"),
        ([(b"authorization", b"first-key")], "no API key"),
        ([(b"authorization", b"Basic first-key")], "no API key"),
        ([(b"authorization", b"Bearer ")], "not known"),
        ([(b"authorization", b"Bearer first-ke")], "not known"),
        ([(b"x-api-key", b"first-key2")], "not known"),
        ([(b"x-api-key", b"FIRST-KEY")], "not known"),
        ([(b"x-api-key", b"# ours")], "not known"),
        ([(b"x-api-key", b"\xff\x00")], "not known"),
    ],
)
def test_any_other_request_is_unauthorized_and_counted(
    keys: ApiKeys, metrics: Metrics, headers: Headers, named: str
) -> None:
    with pytest.raises(Unauthorized, match=named) as refused:
        keys.check(head(*headers))
    assert "first-key" not in str(refused.value)
    assert metrics.refused == {"unauthorized": 1}


def test_a_handler_is_called_only_with_a_key(keys: ApiKeys) -> None:
    called, sent = [], []

    class Sent:
        def send(self, status: int, _type: bytes, _body: bytes, headers: Headers = [], /) -> None:  # noqa: B006
            sent.append((status, dict(headers)))

        def begin_stream(self, *_: object) -> None:
            raise AssertionError

    def handler(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
        called.append(body)
        return None

    guarded = keys.around(handler)
    guarded(head(), b"1", Sent())
    guarded(head((b"x-api-key", b"first-key")), b"2", Sent())
    assert called == [b"2"]
    assert sent == [(401, {b"www-authenticate": b"Bearer"})]


def test_a_file_is_read_again_and_a_broken_one_changes_nothing(keys: ApiKeys, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"third-key")
    keys.read()
    keys.check(head((b"x-api-key", b"third-key")))
    with pytest.raises(Unauthorized):
        keys.check(head((b"x-api-key", b"first-key")))
    (tmp_path / "keys").write_bytes(b"")
    with pytest.raises(BadSetting):
        keys.read()
    keys.check(head((b"x-api-key", b"third-key")))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "0 keys"),
        (b"# only a comment\n", "0 keys"),
        (b"good\nnot a key\n", "line 2"),
        (b"caf\xc3\xa9\n", "line 1"),
        (b"x" * 513, "line 1"),
        (b"x\n" * (MOST_KEYS + 1), "1001 keys"),
        (None, "No such file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, metrics: Metrics, content: bytes | None, named: str) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(BadSetting, match=named):
        ApiKeys(tmp_path / "keys", metrics)
