"""The compose stack, really started: Prometheus scrapes the server, and answers everything that the dashboard asks."""

from __future__ import annotations

import json
import os
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from container.docker import DockerFailed, docker, has_image
from tests.container.test_monitoring import MONITORING, expressions, rules

if TYPE_CHECKING:
    from tests.container.conftest import Perceptron

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]

DEBIAN = "debian:bookworm-slim"
ROWS = {"instances": [[0.5, -1.0, 2.0, 0.0]]}
QUIET = ("cache", "shadow", "refused", "failed_slices", "model_failed", "overloaded", "alerts")
"""Parts of expressions that rightly say nothing of a healthy server without cache and shadow."""


class Stack:
    """A compose project of the test's own."""

    def __init__(self, project: str, prometheus_image: str) -> None:
        self.prometheus_image = prometheus_image
        self._compose = ("compose", "--project-name", project, "--file", str(MONITORING.parent / "compose.yaml"))

    def run(self, *arguments: str) -> str:
        return docker(*self._compose, *arguments, timeout_s=180)

    def base(self, service: str, port: int) -> str:
        return "http://" + self.run("port", service, str(port))

    def fetch(self, url: str, document: Any = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def eventually(self, look: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := look():
                    return found
            except (OSError, ValueError, DockerFailed):
                pass
            time.sleep(0.2)
        pytest.fail(f"never came true: {what}\n{self.run('logs', '--tail', '40')}")


@pytest.fixture(scope="module")
def stack(image: str, perceptron: Perceptron) -> Iterator[Stack]:
    """Server and Prometheus. Grafana is in no package that a test could build from: its files are checked elsewhere."""
    if not has_image(DEBIAN):
        pytest.skip(f"{DEBIAN}, for Debian's Prometheus, is not on this machine, and tests pull nothing")
    file = Path(__file__).with_name("prometheus.Dockerfile")
    tag = f"slipway-prometheus:test-{os.getpid()}"
    docker("build", "--quiet", "--file", str(file), "--tag", tag, str(MONITORING), timeout_s=300)
    project = Stack(f"slipway-test-{os.getpid()}", tag)
    chosen = {
        "IMAGE": image,
        "MODEL": str(perceptron.directory),
        "PROMETHEUS_IMAGE": tag,
        **dict.fromkeys(("SERVER_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "LOCUST_PORT"), "0"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in chosen.items():
            patch.setenv(name, value)
        try:
            project.run("up", "--detach", "--pull", "never", "server", "prometheus")
            yield project
        finally:
            project.run("down", "--volumes", "--timeout", "10")
            docker("image", "rm", "--force", tag)


def test_prometheus_scrapes_the_server_and_answers_everything_that_is_asked(stack: Stack) -> None:
    server, prometheus = stack.base("server", 8080), stack.base("prometheus", 9090)

    def query(expression: str) -> list[Any]:
        concrete = expression.replace("$__rate_interval", "1m").replace("$model", ".*")
        told = stack.fetch(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": concrete}))
        assert told["status"] == "success", concrete
        found: list[Any] = told["data"]["result"]
        return found

    stack.eventually(lambda: stack.fetch(f"{server}/invocations", ROWS), "the server answers")

    def flowing() -> bool:
        stack.fetch(f"{server}/invocations", ROWS)
        return any(float(one["value"][1]) > 0 for one in query("sum(rate(slipway_requests_total[1m]))"))

    stack.eventually(flowing, "a rate of requests is seen")
    assert query("up{job='slipway'}")[0]["value"][1] == "1"
    assert query("slipway_ready")[0]["value"][1] == "1"
    alerts = {rule["expr"] for rule in rules() if "alert" in rule}
    silent = [
        one for one in expressions() if not query(one) and one not in alerts and not any(word in one for word in QUIET)
    ]
    assert silent == []


def test_rules_are_loaded_and_nothing_is_alarming(stack: Stack) -> None:
    prometheus = stack.base("prometheus", 9090)

    def evaluated() -> list[Any]:
        groups = stack.fetch(f"{prometheus}/api/v1/rules")["data"]["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return found if found and all(rule["health"] == "ok" for rule in found) else []

    loaded = stack.eventually(evaluated, "every rule is evaluated")
    assert {rule["name"] for rule in loaded} == {rule.get("alert") or rule["record"] for rule in rules()}
    assert [rule["name"] for rule in loaded if rule.get("state") == "firing"] == []


def test_the_whole_file_is_one_that_compose_accepts(stack: Stack) -> None:
    told = json.loads(stack.run("--profile", "load", "config", "--format", "json"))
    assert set(told["services"]) == {"server", "prometheus", "grafana", "locust"}


def test_alerts_fire_when_they_should(stack: Stack) -> None:
    mounted = ("--volume", f"{MONITORING}:/monitoring:ro", "--entrypoint", "promtool")
    told = docker("run", "--rm", *mounted, stack.prometheus_image, "test", "rules", "/monitoring/alerts.test.yml")
    assert "SUCCESS" in told
