"""The choices made for a model at load, as metrics: whoever explains or forecasts its latency needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily


@dataclass(frozen=True, slots=True)
class Choices:
    """How the requests of one model are batched and admitted.

    ``max_batch_size`` rows at most run together, and wait ``max_queue_delay_ns`` for others while an instance is idle.
    A request with a longer predicted wait than ``max_queue_ns`` is refused. ``inline``: runs take place on the event
    loop. ``shared``: models take turns on the device.
    """

    max_batch_size: int
    max_queue_delay_ns: int
    max_queue_ns: int
    inline: bool
    shared: bool = False


def families(choices: Iterable[tuple[Sequence[str], Choices, float]]) -> Iterator[Any]:
    """The metric families of all models, each given with the values of the labels model and version.

    The number: how many times longer a run takes while all instances run, as learnt up to now.
    """
    rows, delay, wait, inline, shared, contention = (
        GaugeMetricFamily(name, text, labels=["model", "version"])
        for name, text in (
            ("slipway_max_batch_size", "Most rows in one run"),
            ("slipway_max_queue_delay_seconds", "Time for which a batch waits for more rows while an instance is idle"),
            ("slipway_max_queue_seconds", "Predicted wait above which requests are refused"),
            ("slipway_inline", "1 where the model runs on the event loop, else 0"),
            ("slipway_device_shared", "1 where the model takes turns with others on its device, else 0"),
            ("slipway_contention_ratio", "Time of a run while all instances run, over its time alone"),
        )
    )
    for labels, one, ratio in choices:
        rows.add_metric(labels, one.max_batch_size)
        delay.add_metric(labels, one.max_queue_delay_ns / 1e9)
        wait.add_metric(labels, one.max_queue_ns / 1e9)
        inline.add_metric(labels, float(one.inline))
        shared.add_metric(labels, float(one.shared))
        contention.add_metric(labels, ratio)
    yield from (rows, delay, wait, inline, shared, contention)
