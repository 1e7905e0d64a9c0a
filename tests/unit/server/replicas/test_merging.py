"""Merging: sums, largest and smallest values, what ended processes leave behind, and what is shown for each."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from server.observe.exposition import Plain
from server.observe.metrics import Metrics, ModelMetrics
from server.replicas import merging
from server.replicas.merging import counted, merge, of_each, still_shown
from server.request import InferRequest

LABELS = {"model": "m", "version": "1"}


def family(name: str, kind: str, *samples: list[Any]) -> dict[str, Any]:
    return {"name": name, "type": kind, "text": "a text", "samples": [list(one) for one in samples]}


@pytest.mark.parametrize(
    ("name", "kind", "merged"),
    [
        ("slipway_requests", "counter", 5.0),
        ("slipway_stage_seconds", "histogram", 5.0),
        ("slipway_queue_rows", "gauge", 5.0),
        ("slipway_max_batch_size", "gauge", 3.0),
        ("slipway_ready", "gauge", 2.0),
    ],
)
def test_values_are_added_or_the_largest_or_the_smallest_counts(name: str, kind: str, merged: float) -> None:
    processes = [[family(name, kind, [name, LABELS, value])] for value in (2.0, 3.0)]
    (one,) = merge(processes)
    assert one["samples"] == [[name, LABELS, merged]]
    assert processes[0][0]["samples"] == [[name, LABELS, 2.0]]


def test_samples_of_one_process_alone_are_kept_in_their_place() -> None:
    here = family("slipway_requests", "counter", ["r", {"outcome": "ok"}, 1.0])
    there = family("slipway_requests", "counter", ["r", {"outcome": "late"}, 2.0], ["r", {"outcome": "ok"}, 3.0])
    (one,) = merge([[here], [there]])
    assert one["samples"] == [["r", {"outcome": "ok"}, 4.0], ["r", {"outcome": "late"}, 2.0]]


def test_an_ended_process_leaves_its_counts_until_no_process_has_the_model() -> None:
    ended = [
        family("slipway_requests", "counter", ["r", LABELS, 7.0], ["r", {"model": "gone", "version": "1"}, 9.0]),
        family("slipway_refused", "counter", ["f", {"code": "unknown_model"}, 2.0]),
        family("slipway_queue_rows", "gauge", ["q", LABELS, 4.0]),
        family("process_cpu_seconds", "counter", ["process_cpu_seconds_total", {}, 4.0]),
    ]
    living = [family("slipway_requests", "counter", ["r", LABELS, 1.0])]
    left = still_shown(counted(ended), living)
    assert {one["name"]: one["samples"] for one in merge([living, left])} == {
        "slipway_requests": [["r", LABELS, 8.0]],
        "slipway_refused": [["f", {"code": "unknown_model"}, 2.0]],
    }


def test_what_matters_of_each_process_is_shown_with_its_number() -> None:
    rows = family("slipway_queue_rows", "gauge", ["slipway_queue_rows", LABELS, 2.0], ["slipway_queue_rows", {}, 3.0])
    shown = of_each({0: [rows], 4: [family("slipway_connections", "gauge", ["slipway_connections", {}, 9.0])]})
    assert [(one["name"], one["samples"]) for one in shown] == [
        ("slipway_replica_queue_rows", [["slipway_replica_queue_rows", {"replica": "0"}, 5.0]]),
        ("slipway_replica_connections", [["slipway_replica_connections", {"replica": "4"}, 9.0]]),
    ]


def metrics(answers: int) -> Metrics:
    metrics = Metrics(lambda: True, "1")
    model = ModelMetrics("m", "1")
    for number in range(answers):
        request = InferRequest((), 1, lambda _: None)
        request.decoded_ns = request.held_ns = request.picked_ns = request.assembled_ns = 0
        request.computed_ns = request.scattered_ns = 0
        model.stages.record(request, -1_000 * number, 0, 0, 0)
    model.answers["ok"] = answers
    metrics.add(model)
    return metrics


def test_the_text_of_two_merged_processes_is_that_of_one_with_the_requests_of_both() -> None:
    plain = [metrics(answers).exposition(list(metrics(answers).copies())).plain() for answers in (3, 4)]
    families = list(text_string_to_metric_families(Plain(merge(plain)).text().decode()))
    alone = list(text_string_to_metric_families(metrics(7).text().decode()))
    assert [one.name for one in families if one.name.startswith("slipway")] == [
        one.name for one in alone if one.name.startswith("slipway")
    ]
    values = {(one.name, tuple(one.labels.items())): one.value for family in families for one in family.samples}
    assert values["slipway_requests_total", (("model", "m"), ("outcome", "ok"), ("version", "1"))] == 7
    assert values["slipway_request_seconds_count", (("model", "m"), ("version", "1"))] == 7
    assert values["slipway_request_seconds_sum", (("model", "m"), ("version", "1"))] == pytest.approx(9e-6)


def test_every_gauge_of_the_server_that_counts_something_of_a_process_is_named() -> None:
    known = {one.name for one in text_string_to_metric_families(metrics(1).text().decode()) if one.type == "gauge"}
    own = {name for name in merging.ADDED_GAUGES if name in known}
    assert {"slipway_queue_rows", "slipway_model_memory_bytes", "slipway_cache_bytes"} <= own


def test_each_bucket_has_the_newest_exemplar_of_all_processes() -> None:
    processes = []
    for trace, took_ns, at_s in (("a", 2_000_000, 20.0), ("b", 2_000_000, 30.0), ("c", 700_000_000, 10.0)):
        metrics, model = Metrics(lambda: True, "1"), ModelMetrics("m", "1")
        metrics.add(model)
        model.exemplars.note([took_ns] * 10, trace, "s", at_s)
        processes.append(orjson.loads(orjson.dumps(metrics.exposition(list(metrics.copies())).plain())))
    merged = Plain(merge([merge(processes[:2]), processes[2], processes[0]]))
    families = parse_openmetrics(merged.text(openmetrics=True).decode())  # type: ignore[no-untyped-call]
    noted = {
        (one.labels["le"], one.exemplar.labels["trace_id"], one.exemplar.value, float(one.exemplar.timestamp))
        for family in families
        for one in family.samples
        if one.name == "slipway_request_seconds_bucket" and one.exemplar is not None
    }
    assert noted == {("0.0025", "b", 0.002, 30.0), ("1.0", "c", 0.7, 10.0)}
    assert "trace_id" not in merged.text().decode()
