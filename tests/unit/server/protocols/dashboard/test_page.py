"""The page: who gets it at ``/``, its headers, and that its files name no other host and run no inline code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.lifecycle import Lifecycle
from server.protocols import Responder
from server.protocols.api_keys import OPEN
from server.protocols.dashboard import Dashboard, accepts_html
from server.protocols.dashboard.files import FILES, FOLDER, PAGE
from server.protocols.guard import Guard
from server.request import Head, InferRequest
from tests.fake_models import FakeLoader, fake_models
from tests.fakes import FakeResponder

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def dashboard(guard: Guard | None = None) -> Dashboard:
    models, metrics = fake_models(FakeLoader())
    return Dashboard(models, Lifecycle(), metrics, "1", guard)


def other(_head: Head, _body: bytes, responder: Responder) -> InferRequest | None:
    responder.send(200, b"application/json", b'{"status":"alive"}')
    return None


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        (b"TEXT/HTML", True),
        (b"application/json, text/html;q=0.5", True),
        (b"*/*", False),
        (b"", False),
        (b"application/json", False),
        (b"text/html;q=0", False),
        (b"text/html; q=0.000", False),
        (b"text/html;level=1;q=0.1", True),
        (b"text/htmlx", False),
        (b";;,,=,\xff", False),
    ],
)
def test_a_browser_gets_the_page_and_others_get_what_they_got_before(accept: bytes, page: bool) -> None:
    assert accepts_html(accept) is page
    responder = FakeResponder()
    dashboard().front(other)(Head(b"GET", b"/", [(b"accept", accept)]), b"", responder)
    ((status, content_type, body, headers),) = responder.responses
    assert status == 200
    assert (content_type == b"text/html; charset=utf-8") is page
    assert (b"alive" in body) is not page
    if page:
        assert (b"vary", b"accept") in headers
        assert b"script-src 'self'" in dict(headers)[b"content-security-policy"]


def test_every_file_of_the_page_has_a_route_that_needs_no_key() -> None:
    on_disk = {one.name for one in FOLDER.iterdir() if one.suffix in (".js", ".css", ".html")}
    assert on_disk == {path.rpartition("/")[2] for path in FILES} | {PAGE}
    routes = {route.path: route for route in dashboard().routes()}
    for path, content_type in FILES.items():
        assert path in OPEN
        responder = FakeResponder()
        routes[path].bind({})(Head(b"GET", path.encode(), []), b"", responder)
        assert responder.responses[0][:2] == (200, content_type)
    assert "/dashboard/state" not in OPEN


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.[jhc]*")), ids=lambda path: path.name)
def test_the_files_use_no_network_no_inline_code_and_no_markup_made_of_data(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    hosts = set(re.findall(r"https?://[^\s\"']+", text))
    assert hosts <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|localStorage", text)
    assert not re.search(r"""<[^>]*\s(on\w+|style)\s*=""", text)


def test_the_state_says_whether_and_how_models_may_be_changed() -> None:
    assert Guard(token="t").asks_browsers
    assert not Guard().asks_browsers


async def test_the_example_of_an_unknown_model_is_a_404() -> None:
    route = next(one for one in dashboard().routes() if one.path.endswith("/example"))
    responder = FakeResponder()
    route.bind({"name": "m", "version": "1"})(Head(b"GET", b"/", []), b"", responder)
    assert responder.responses[0][0] == 404
