"""Dashboard, alerts and compose file: in step with each other and with what a real server really exposes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from container import dashboard
from server.request import STAGES
from tests.integration import sample_models
from tests.integration.server_process import server_process

MONITORING = dashboard.PATH.parents[2]
COMPOSE = yaml.safe_load((MONITORING.parent / "compose.yaml").read_text("utf-8"))
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
NAME = re.compile(r"\b(?:slipway|process)_[a-z_]+\b")
LABEL = re.compile(r'\b([a-z_]+)(?:=~|!=|=)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")


def rules() -> Iterator[dict[str, Any]]:
    for file in ("objectives.yml", "alerts.yml"):
        for group in yaml.safe_load((MONITORING / file).read_text("utf-8"))["groups"]:
            yield from group["rules"]


def expressions() -> list[str]:
    panels = dashboard.document()["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])] + [
        one["expr"] for one in rules()
    ]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Name of every series of a real scrape, and its labels."""
    directory = tmp_path_factory.mktemp("scraped")
    model = sample_models.mlp(directory / "mlp.onnx")
    with server_process(directory, model, "--cache-mb", "1") as server:
        server.ready()
        assert server.post("/invocations", {"instances": [[0.0] * 8]}).status == 200
        assert server.post("/invocations", b"x", {"Content-Type": "no/type"}).status == 415
        text = server.get("/metrics").body.decode()
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for suffix in SUFFIXES[family.type]:
            names.setdefault(family.name + suffix, set())
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


def test_every_metric_of_dashboard_and_alerts_is_exposed(exposed: dict[str, set[str]]) -> None:
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(used) > 15
    assert used - set(exposed) == set()


def test_every_label_of_dashboard_and_alerts_is_exposed(exposed: dict[str, set[str]]) -> None:
    known = {label for labels in exposed.values() for label in labels} | {"job", "instance"}
    used = {label for expression in expressions() for label in LABEL.findall(expression)}
    for expression in expressions():
        for names in GROUPING.findall(expression):
            used.update(name.strip() for name in names.split(","))
    assert {"model", "stage", "outcome", "le"} <= used
    # A shadow is a thing of several versions: its counter has the labels of the others.
    assert used - known == set()


def test_stages_that_are_named_are_stages_of_the_server() -> None:
    named = {stage for expression in expressions() for stage in re.findall(r'stage="(\w+)"', expression)}
    assert named >= {"queue_busy", "queue_timer", "compute"}
    assert named <= set(STAGES)


def test_the_stored_dashboard_matches_the_table() -> None:
    assert dashboard.PATH.read_text("utf-8") == dashboard.as_text(), "make dashboard"


def test_panels_do_not_overlap_and_ask_the_provisioned_source() -> None:
    document = json.loads(dashboard.PATH.read_text("utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    sources = yaml.safe_load((MONITORING / "grafana/datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    assert {panel["datasource"]["uid"] for panel in document["panels"] if "datasource" in panel} == {sources[0]["uid"]}
    ids = [panel["id"] for panel in document["panels"]]
    assert len(set(ids)) == len(ids)


def test_everything_in_the_stack_is_published_to_this_machine_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service["ports"]]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_memory_limit_of_the_stack_is_the_one_that_the_alert_knows() -> None:
    recorded = next(rule["expr"] for rule in rules() if rule.get("record") == "slipway:memory_limit_bytes")
    assert COMPOSE["services"]["server"]["mem_limit"] == "2g"
    assert recorded == f"vector({2 << 30})"


def test_the_stack_scrapes_the_server_that_it_starts() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    assert config["scrape_configs"][0]["static_configs"][0]["targets"] == ["server:8080"]
    assert "server" in COMPOSE["services"]
    for file in config["rule_files"]:
        assert (MONITORING / file).is_file()
