"""The response cache of a real server: identical questions, over a socket."""

from __future__ import annotations

from pathlib import Path

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import instances

JSON = {"Content-Type": "application/json"}


def test_an_identical_question_is_answered_from_memory_and_says_so(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model"), "--cache-mb", "1").ready()
    first, second, other = (server.post("/invocations", instances([value] * 4), JSON) for value in (1.0, 1.0, 2.0))
    assert first.json() == second.json() == {"predictions": [[2.0] * 4]}
    assert other.json() == {"predictions": [[4.0] * 4]}
    told = [answer.headers.get("x-slipway-cache") for answer in (first, second, other)]
    assert told == [None, "hit", None]
    outcomes = {key: value for key, value in server.samples().items() if "slipway_cache_requests_total" in key}
    assert sorted(outcomes.values()) == [1.0, 2.0]


def test_without_the_setting_nothing_is_kept(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model")).ready()
    answers = [server.post("/invocations", instances([1.0] * 4), JSON) for _ in range(2)]
    assert [answer.headers.get("x-slipway-cache") for answer in answers] == [None, None]
