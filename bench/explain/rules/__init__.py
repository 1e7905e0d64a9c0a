"""The rules of the verdict: from the facts of a run, the time around p99 that each cause explains.

A rule is a function of the facts. It gives None, or a finding with the milliseconds that it explains. Rules for general
causes (capacity, hardware) come last and get what the special ones leave: a run that is slow because of a CPU quota is
not slow because of its hardware.
"""

from __future__ import annotations

from ..facts import Facts
from ..findings import MIN_MS, Finding, Rule, view_of
from . import client, machine, model, queues, way


def findings(facts: Facts) -> dict[str, Finding]:
    """What each rule found, by the name of its cause."""
    view = view_of(facts)
    found: dict[str, Finding] = {}
    for rule in RULES:
        one = rule(view, found)
        if one is not None and one.high_ms >= MIN_MS:
            found[one.name] = one
    return found


RULES: tuple[Rule, ...] = (
    machine.cpu_quota, machine.threads, machine.neighbour, client.generator, client.cold_start, model.input_size,
    client.other_traffic, machine.stall, client.connections, way.network_latency, way.bandwidth, queues.batch_timer,
    way.codec, model.padding, model.model_size, queues.serial, queues.capacity, model.hardware,
)  # fmt: skip
