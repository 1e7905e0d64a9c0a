"""The statistics of one version in several processes: everything is added but the time of the last inference."""

from __future__ import annotations

from typing import Any

from server.protocols.open_inference.statistics import added


def document(count: int, last: int, *sizes: int) -> dict[str, Any]:
    figure = {"count": count, "ns": 10 * count}
    return {
        "name": "m",
        "version": "1",
        "last_inference": last,
        "inference_count": count,
        "execution_count": count,
        "inference_stats": {"success": dict(figure), "queue": dict(figure)},
        "response_stats": {},
        "batch_stats": [{"batch_size": size, "compute_infer": dict(figure)} for size in sizes],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": 100 * count}],
    }


def test_counts_and_times_are_added_by_batch_size() -> None:
    ours, theirs = document(1, 70, 1, 4), document(2, 60, 2, 4)
    both = added(ours, [theirs, None])
    assert both == {
        **document(3, 70),
        "batch_stats": [
            {"batch_size": 1, "compute_infer": {"count": 1, "ns": 10}},
            {"batch_size": 2, "compute_infer": {"count": 2, "ns": 20}},
            {"batch_size": 4, "compute_infer": {"count": 3, "ns": 30}},
        ],
    }
    assert (ours, theirs) == (document(1, 70, 1, 4), document(2, 60, 2, 4))


def test_a_process_alone_has_its_own_statistics() -> None:
    assert added(document(1, 70, 1), []) == document(1, 70, 1)
