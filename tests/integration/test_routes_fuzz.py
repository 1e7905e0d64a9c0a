"""Every route against generated requests: never a failure of the server, and the server goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.integration import sample_models
from tests.integration.server_process import ServerProcess, server_process

pytestmark = pytest.mark.slow

SEED = 20_261_129
REQUESTS = 25
"""Requests for each route and method. A longer run raises this number."""

TEXTS = ["", "m", "1", "x", "..", "a\0b", "\ud800", "é" * 300, "9" * 5_000, "/etc", "../..", "true", "null"]
NUMBERS = [0, -1, 1, 1.5, 1e308, 2**62, 2**63, 10**30, 10**400]
KEYS = [
    "path",
    "name",
    "version",
    "model_name",
    "url",
    "ready",
    "parameters",
    "instances",
    "inputs",
    "percent",
    "input",
    "model",
    "dimensions",
    "rules",
]
HEADERS = {
    "Content-Type": [
        "application/json",
        "text/csv",
        "application/x-npy",
        "application/x-npz",
        "text/plain; charset=x",
        ";",
    ],
    "Accept": ["*/*", "text/csv", "application/x-npz", "image/png", ";q=9"],
    "X-Request-Priority": ["1", "9" * 5_000, "-1"],
    "X-Request-Deadline-Ms": ["100000", "nan", "1e999", "-5"],
    "X-Amzn-SageMaker-Custom-Attributes": ["slipway-timing", "x" * 2_000],
    "X-Amzn-SageMaker-Session-Id": ["NEW_SESSION", "none"],
    "Content-Encoding": ["gzip", "identity"],
    "Inference-Header-Content-Length": ["0", "10", "99999999999999999999"],
}


@pytest.fixture(scope="module", params=["one model", "a fleet"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("fuzz")
    model = sample_models.fake(directory / "m", name="m")
    flags = ["--multi-model"] if request.param == "a fleet" else []
    with server_process(directory, model, "--admin", "--sessions", *flags) as process:
        yield process.ready()


def value(chance: random.Random, depth: int = 3) -> object:
    """A JSON value."""
    kind = chance.randrange(6 if depth else 3)
    if kind == 0:
        return chance.choice(TEXTS)
    if kind == 1:
        return chance.choice(NUMBERS)
    if kind == 2:
        return chance.choice([None, True, False])
    if kind == 3:
        return {chance.choice(KEYS): value(chance, depth - 1) for _ in range(chance.randrange(4))}
    return [value(chance, depth - 1) for _ in range(chance.randrange(4))]


def body(chance: random.Random) -> bytes:
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        return json.dumps(value(chance)).encode()[: chance.randrange(200)]
    fields = {key: value(chance) for key in chance.sample(KEYS, 3)}
    return json.dumps(fields if kind == 2 else value(chance)).encode()


def test_no_request_to_any_route_is_a_failure_of_the_server(server: ServerProcess) -> None:
    chance = random.Random(SEED)
    paths = server.get("/openapi.json").json()["paths"]
    failed = []
    for path, item in sorted(paths.items()):
        for method in sorted(item):
            for _ in range(REQUESTS):
                url = path
                for name in ("name", "version", "label"):
                    url = url.replace("{" + name + "}", quote(chance.choice(TEXTS), safe="", errors="replace"))
                headers = {key: chance.choice(HEADERS[key]) for key in chance.sample(sorted(HEADERS), 3)}
                answer = server.request(method.upper(), url, body(chance), headers)
                if answer.status >= 500 and answer.status not in (503, 507):
                    failed.append((method, url[:80], answer.status, answer.body[:200]))
    assert not failed
    assert "Traceback" not in server.log()
    assert server.get("/metrics").status == 200
    assert server.get("/admin/models").status == 200
