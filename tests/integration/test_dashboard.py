"""The dashboard in a real browser: what it shows, tries and changes, and how it looks when something is wrong."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import ServerProcess, server_process

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
sync_api = pytest.importorskip("playwright.sync_api")

HTML = "text/html,application/xhtml+xml"
ODD = "<img src=x onerror=alert(1)>"
"""The name of a model that is markup."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("dashboard")
    root = folder / "models"
    for version in ("1", "2"):
        sample_models.fake(root / "scores" / version, name="scores", version=version)
    sample_models.fake(root / ODD / "1", name=ODD)
    sample_models.text(root / "words" / "1" / "model.onnx")
    sample_models.brightest_channel(root / "pixels" / "1" / "model.onnx", 8)
    with server_process(folder, root, "--keep-versions", "0") as process:
        yield process.ready()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails its test if a script fails, or if the policy of the page refuses something."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
    yield page
    context.close()
    assert faults == []


def opened(page: Any, server: ServerProcess) -> Any:
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.wait_for_selector("#tiles dd")
    return page


def choose(page: Any, name: str) -> None:
    page.select_option("#trial-model", label=f"{name} 1")
    page.wait_for_selector("#trial-send:not([disabled])")


def answer(page: Any) -> str:
    """Send, and read the answer of this request: what stood there before is removed first."""
    page.evaluate("document.getElementById('trial-answer').replaceChildren()")
    page.click("#trial-send")
    page.wait_for_selector("#trial-answer p")
    return str(page.inner_text("#trial-answer"))


def token_of(server: ServerProcess) -> str:
    found = re.search(r"token=(\S+);", server.log())
    assert found is not None
    return found[1]


def test_models_are_shown_as_text_and_only_this_server_is_asked(page: Any, server: ServerProcess) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, server)
    table = page.inner_text("#models")
    assert all(name in table for name in ("scores", "words", "pixels", ODD))
    assert page.locator("img").count() == 0
    assert page.inner_text("#status") == "ready"
    assert {url for url in asked if not url.startswith(f"http://127.0.0.1:{server.port}/")} <= {"data:,"}


def test_a_request_of_numbers_shows_its_answer_and_where_its_time_went(page: Any, server: ServerProcess) -> None:
    opened(page, server)
    choose(page, "scores")
    page.fill("#trial-fields textarea", "[[1, 2, 3, 4.5]]")
    text = answer(page)
    assert "200 answered" in text
    assert "[[2,4,6,9]]" in text
    assert all(
        stage in text for stage in ("receive", "decode", "queue_busy", "compute", "encode", "network and browser")
    )
    page.fill("#trial-fields textarea", "[[1, 2")
    assert "not JSON" in answer(page)
    page.fill("#trial-fields textarea", "[[1, 2]]")
    assert "400 refused" in answer(page)


def test_a_text_and_a_file_are_sent_to_a_model_of_bytes(page: Any, server: ServerProcess) -> None:
    opened(page, server)
    choose(page, "words")
    page.fill("#trial-fields textarea", "<b>grün</b>")
    assert "<b>grün</b>" in answer(page)
    page.set_input_files("#trial-fields input", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"of a file"})
    assert "of a file" in answer(page)


def test_an_image_becomes_the_tensor_that_a_model_takes(page: Any, server: ServerProcess) -> None:
    opened(page, server)
    choose(page, "pixels")
    file = io.BytesIO()
    Image.new("RGB", (20, 12), (0, 255, 51)).save(file, "PNG")
    page.set_input_files("#trial-fields input", {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()})
    assert "[[0,1,0.2" in answer(page)


def test_a_model_whose_name_is_markup_can_be_tried(page: Any, server: ServerProcess) -> None:
    opened(page, server)
    choose(page, ODD)
    assert "200 answered" in answer(page)
    assert page.locator("img").count() == 0


def test_changes_ask_once_and_are_made_only_when_agreed(page: Any, server: ServerProcess) -> None:
    opened(page, server)
    assert page.locator("#models button").count() == 0
    page.fill("#admin-token", "wrong")
    page.click("text=Use the token")
    page.wait_for_selector("#admin-outcome.bad")
    page.fill("#admin-token", token_of(server))
    page.click("text=Use the token")
    promote = page.get_by_role("button", name="Promote scores version 1")
    promote.click()
    assert "scores version 1 answers from now on" in page.inner_text("#ask")
    page.click("#ask-no")
    assert server.get("/v2/models/scores").json()["versions"] == ["1", "2"]
    assert page.get_by_role("button", name="Promote scores version 1").count() == 1
    page.get_by_role("button", name="Canary scores version 1").click()
    page.fill("#canary-percent", "25")
    page.click("#ask-yes")
    page.wait_for_selector("#compared table")
    assert "25 % of requests are answered by version 1" in page.inner_text("#compared")
    page.get_by_role("button", name="Roll back scores version 2").click()
    page.click("#ask-yes")
    page.wait_for_selector("#compared table", state="detached")
    assert "rolled back by a call" in page.inner_text("#compared")
    page.get_by_role("button", name="Promote scores version 1").click()
    page.click("#ask-yes")
    page.get_by_role("button", name="Promote scores version 2").wait_for()
    page.get_by_role("button", name="Roll back scores version 1").click()
    page.click("#ask-yes")
    page.get_by_role("button", name="Promote scores version 1").wait_for()


def test_a_load_that_fails_says_why_and_an_unload_is_shown(page: Any, server: ServerProcess, tmp_path: Path) -> None:
    opened(page, server)
    page.fill("#admin-token", token_of(server))
    page.click("text=Use the token")
    page.fill("#load-path", str(tmp_path / "nothing"))
    page.click("#admin-forms button")
    page.click("#ask-yes")
    page.wait_for_selector("#admin-outcome.bad")
    page.fill("#load-path", str(sample_models.fake(tmp_path / "more", name="more")))
    page.click("#admin-forms button")
    page.click("#ask-yes")
    page.get_by_role("button", name="Unload more version 1").click()
    page.click("#ask-yes")
    page.get_by_text("it was unloaded").wait_for()


def test_the_key_of_the_server_is_asked_for_and_kept_in_memory(page: Any, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("first\n")
    keyed = serve(sample_models.fake(tmp_path / "m"), "--api-keys-file", str(tmp_path / "keys")).ready()
    page.goto(f"http://127.0.0.1:{keyed.port}/")
    page.fill("#key-value", "wrong")
    page.click("text=Use the key")
    page.wait_for_selector(".banner.bad")
    page.fill("#key-value", "first")
    page.click("text=Use the key")
    page.wait_for_selector("#tiles dd")
    page.wait_for_selector("#trial-send:not([disabled])")
    assert "200 answered" in answer(page)
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def altered(page: Any, server: ServerProcess, **fields: Any) -> None:
    """Let the page read the real state with other fields."""
    state = server.get("/dashboard/state").json()
    page.route("**/dashboard/state", lambda route: route.fulfill(json={**state, **fields}))


def test_a_server_that_starts_without_models_says_so(page: Any, server: ServerProcess) -> None:
    altered(page, server, models=[], versions=[], phase="starting", ready=False)
    opened(page, server)
    assert page.inner_text("#status") == "starting"
    assert "models are being loaded" in page.inner_text("#banners")
    assert "Models are being loaded." in page.inner_text("#models")
    assert "No model is ready." in page.inner_text("#trial")


def test_an_overloaded_server_says_which_share_it_refuses(page: Any, server: ServerProcess) -> None:
    state = server.get("/dashboard/state").json()
    counts = iter(range(1, 1000))

    def answer_with_more(route: Any) -> None:
        count = next(counts)
        refused = {**state["server"], "refused": {"server_full": 30 * count}}
        rows = [{**state["versions"][0], "requests": {"ok": 60 * count, "overloaded": 10 * count}, "wait_s": 0.9}]
        route.fulfill(json={**state, "clock_s": 2.0 * count, "server": refused, "versions": rows})

    page.route("**/dashboard/state", answer_with_more)
    opened(page, server)
    page.wait_for_selector(".banner.warn")
    assert "40\u00a0% of the last requests were refused" in page.inner_text("#banners")
    assert "900 ms" in page.inner_text("#banners")
    assert "server_full" in page.inner_text("#requests")


def test_a_server_that_does_not_answer_any_more_is_shown_as_such_until_it_does(
    page: Any, server: ServerProcess
) -> None:
    opened(page, server)
    page.route("**/dashboard/state", lambda route: route.abort())
    page.wait_for_selector("body.stale .banner.bad")
    assert page.inner_text("#status") == "no answer"
    page.unroute("**/dashboard/state")
    page.wait_for_selector("body:not(.stale)")
    assert page.inner_text("#status") == "ready"


@pytest.mark.parametrize("width", [400, 1200])
def test_it_fits_the_screen_in_light_and_dark(browser: Any, server: ServerProcess, width: int) -> None:
    colours = []
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page = opened(context.new_page(), server)
        page.wait_for_selector("#trial-send:not([disabled])")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert len(set(colours)) == 2


def test_every_field_has_a_label_and_the_keyboard_comes_to_the_figures_first(page: Any, server: ServerProcess) -> None:
    opened(page, server)
    page.wait_for_selector("#trial-send:not([disabled])")
    bare = "[...document.querySelectorAll('input, select, textarea')].filter(one => !one.labels.length).length"
    assert page.evaluate(bare) == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_quantiles_and_rates_are_those_of_the_counters(page: Any, server: ServerProcess) -> None:
    opened(page, server)
    found = page.evaluate("""async () => {
      const { History, quantile } = await import("./dashboard/history.js");
      const row = (ok, low) => ({
        model: "m", version: "1", requests: { ok }, latency: { "1.0": low, "0.5": 0, "+Inf": ok },
      });
      const history = new History();
      history.add({ clock_s: 10, server: { started_s: 1, cpu_s: 1 }, versions: [row(10, 10)] });
      history.add({ clock_s: 12, server: { started_s: 1, cpu_s: 2 }, versions: [row(30, 25)] });
      const two = history.over(30, null);
      history.add({ clock_s: 14, server: { started_s: 1, cpu_s: 2 }, versions: [row(4, 4)] });
      const again = history.series('["m","1"]').at(-1);
      history.add({ clock_s: 1, server: { started_s: 9, cpu_s: 0 }, versions: [] });
      return [two.length_s, two.figures.requests.ok, quantile(two.figures.latency, 0.5), quantile({}, 0.5),
        quantile({ "1.0": 0, "+Inf": 5 }, 0.5), again.figures.requests.ok, history.points.length];
    }""")
    assert found[:3] == [2, 20, pytest.approx(0.5 + 0.5 * 10 / 15)]
    assert found[3] != found[3]
    assert found[4:] == [1, 4, 1]


def test_it_can_be_switched_off_and_is_off_on_sagemaker(serve: Serve, tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "m")
    platform = {"SAGEMAKER_REGION": "eu-west-1"}
    for off in (serve(model, "--no-dashboard"), serve(model, environ=platform), serve(None, "--multi-model")):
        off.ready()
        assert off.get("/", Accept=HTML).json() == {"status": "alive"}
        assert off.get("/dashboard/state").status == off.get("/dashboard/page.js").status == 404


def test_clients_that_are_no_browsers_get_what_kserve_has_at_the_root(server: ServerProcess) -> None:
    for accept in ("*/*", "application/json"):
        assert server.get("/", Accept=accept).json() == {"status": "alive"}
    for path in ("/", "/?theme=none"):
        assert server.get(path, Accept=HTML).headers["content-type"].startswith("text/html")
    assert server.request("HEAD", "/", headers={"Accept": HTML}).status == 200
