"""What ``status`` and ``cost`` print: the deployment, orphaned containers, processor time and memory."""

from __future__ import annotations

from typing import Any

from ...docker import DockerFailed
from ...local.call import NoResponse, call
from ...local.container import labelled
from .. import costs
from ..order import Order
from . import state, traffic
from .candidate import server_of
from .state import Folder
from .steps import folder_of

SCRAPE_S = 5.0
PROCESSOR, MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"


def document(folder: Folder) -> dict[str, Any]:
    """What ``status --json`` prints."""
    report, asked = state.read(folder.report), state.read(folder.wanted)
    runs = state.running(folder)
    candidate = asked.get("candidate")
    running = traffic.figures(folder) if runs else None
    return {
        "name": folder.root.name,
        "endpoint": report.get("status") if runs else "Stopped",
        "url": report.get("url") if runs else None,
        "server": report.get("server") if runs else None,
        "release": report.get("release"),
        "kind": kind_of(asked),
        "instances": report.get("instances") if runs else 0,
        "previous": asked.get("previous"),
        "candidate": {**candidate, "figures": running} if candidate else None,
        "failure": (report.get("failed") or {}).get("reason"),
        "orphans": [] if runs else orphans(folder),
    }


def kind_of(asked: dict[str, Any]) -> str:
    """The kind of endpoint, in the words of ``status`` of SageMaker."""
    kinds = {"multi_model": "multi-model", "serverless": "serverless", "asynchronous": "asynchronous"}
    return next((word for name, word in kinds.items() if asked.get(name)), "real-time")


def orphans(folder: Folder) -> list[str]:
    """The containers of a host that was killed, which the next ``up`` or ``down`` removes."""
    if not state.has_images(folder):
        return []
    try:
        return labelled(folder.label)
    except DockerFailed:
        return []


def cost(order: Order) -> dict[str, Any]:
    """The cost at the price that is given, else nothing; ``measured``: of the server, where it runs."""
    description = order.description
    price, source = description.price, description.source("price")
    if price is None:
        price, source = 0.0, "this machine has no price; pass --price to give it one"
    return {**costs.of(description, order.facts, price, source), "measured": measured(folder_of(order))}


def measured(folder: Folder) -> dict[str, float] | None:
    """Processor seconds and memory of the server since it started, by its own metrics; None where it does not run."""
    server = state.read(folder.report).get("server")
    if not server or not state.running(folder):
        return None
    try:
        text = call(server_of(server).address, "GET", "/metrics", within_s=SCRAPE_S).text
    except NoResponse:
        return None
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith((PROCESSOR, MEMORY)))
    names = {"processor_seconds": PROCESSOR, "memory_bytes": MEMORY}
    return {ours: float(samples[name]) for ours, name in names.items() if name in samples}


def as_text(cost: dict[str, Any]) -> list[str]:
    """For people."""
    lines, found = costs.as_text(cost), cost["measured"]
    if found:
        used = f"{found['processor_seconds']:.1f} s of processor time, {found['memory_bytes'] / 1e6:.0f} MB of memory"
        lines.append(f"machine    {used}, since the server started")
    return lines
