"""Canary, shadow and rollback on this machine: the server compares two releases, and its rules end a canary."""

from __future__ import annotations

from typing import Any

from ..errors import DeploymentFailed, InvalidDescription, NotThere
from ..order import Order
from . import state, wanted
from .candidate import CANARY, SHADOW, Refused, server_of
from .carrying import bring_about, changing
from .state import Folder
from .steps import Document, Found, alone, compared, find, require, served, standing

POLL_S = 1.0
SHARED = ("image", "environment", "startup_s")
"""Settings that two releases in one server have in common."""


def canary(order: Order) -> None:
    """Give a part of the requests to the model for some minutes, then all of them; its rules end it before."""
    asked = wanted.settings(order)
    require(order)
    with changing(order) as folder:
        found = standing(folder)
        if found.stands["release"] == asked["release"]:
            bring_about(order, folder, alone(found))
            order.say(f"in service: {order.description.name}; nothing had to change")
            return
        bring_about(order, folder, compared(found, candidate_of(order, found, asked)), [asked])
        _watch(order, folder, asked["release"])
        kept = {"instances": found.stands["instances"]}
        bring_about(order, folder, served(find(folder), {**asked, **kept}), [asked])
    order.say(f"in service: {order.description.name} at {state.read(folder.report)['url']}")


def shadow(order: Order) -> None:
    """Send copies of the requests to the model; its answers are compared and dropped."""
    asked = wanted.settings(order)
    require(order)
    with changing(order) as folder:
        found = standing(folder)
        changed = bring_about(order, folder, compared(found, candidate_of(order, found, asked)), [asked])
    order.say(
        "the shadow gets copies of the requests; update makes it serve, rollback ends it"
        if changed
        else "nothing had to change"
    )


def rollback(order: Order) -> None:
    """End a canary or a shadow, else return to the release before."""
    require(order)
    with changing(order) as folder:
        found = standing(folder)
        if found.stands.get("candidate"):
            bring_about(order, folder, alone(found))
        else:
            bring_about(order, folder, before_of(folder, found))
        order.say(f"in service again: {state.read(folder.wanted)['release']}")


def before_of(folder: Folder, found: Found) -> dict[str, Any]:
    """The wanted deployment that serves the release before. Raises NotThere."""
    previous = found.stands.get("previous")
    if not previous or previous not in found.releases:
        raise NotThere("there is no version before this one to return to")
    kept = {name: found.stands[name] for name in ("port", "instances")}
    return served(found, {**folder.settings(previous), **kept})


def candidate_of(order: Order, found: Found, asked: Document) -> dict[str, Any]:
    """The candidate of ``canary`` or ``shadow``. Raises InvalidDescription where the two cannot be compared."""
    description, kind = order.description, order.effect
    percent = description.canary_percent if kind == CANARY else description.shadow_percent
    most = 50 if kind == CANARY else 100
    if not 1 <= percent <= most:
        raise InvalidDescription(f"--{kind}-percent takes 1 to {most}")
    if kind == CANARY and not 0 <= description.canary_minutes <= 60:
        raise InvalidDescription("--canary-minutes takes 0 to 60")
    _refuse(kind, found.stands, asked)
    return {"kind": kind, "release": asked["release"], "percent": percent}


def _refuse(kind: str, stands: Document, asked: Document) -> None:
    for one in (stands, asked):
        if one.get("image"):
            raise InvalidDescription(
                f"a {kind} compares two models in the server of this checkout: leave out --local-image, or use update"
            )
        if one.get("multi_model") or one.get("serverless"):
            raise InvalidDescription(f"multi-model and serverless endpoints have no {kind}: use update")
        if kind == SHADOW and one.get("asynchronous"):
            raise InvalidDescription("asynchronous endpoints have no shadow: use canary")
    if stands["release"] == asked["release"]:
        raise InvalidDescription("this model is the one in service: give another artifact")
    other = [name for name in SHARED if stands.get(name) != asked.get(name)]
    if other:
        raise InvalidDescription(
            f"a {kind} compares two models in one server, and {', '.join(other)} differ: give the same, or use update"
        )


def _watch(order: Order, folder: Folder, release: str) -> None:
    """Wait for the end of the watch. Raises DeploymentFailed, without the candidate, if the server ended it before."""
    clock, begun = order.clock, order.clock.now()
    last: dict[str, Any] = {}
    while True:
        model = _model(folder)
        running = model.get("comparison")
        if running is None or running["other"]["version"] != release:
            switches = model.get("switches") or [{"reason": "the server does not say why"}]
            bring_about(order, folder, alone(find(folder)))
            raise DeploymentFailed(f"the canary of {order.description.name} was ended: {switches[-1]['reason']}")
        last = running
        if clock.now() - begun >= order.description.canary_minutes * 60:
            break
        clock.sleep(POLL_S)
    ours, theirs = last["other"], last["stable"]
    order.say(
        f"canary: {ours['answers']} answers, {ours['faults']} faults, p95 {ours['p95_ms']:g} ms; "
        f"the stable version: {theirs['answers']}, {theirs['faults']}, {theirs['p95_ms']:g} ms"
    )


def _model(folder: Folder) -> dict[str, Any]:
    try:
        return server_of(state.read(folder.report)["server"]).model()
    except Refused as error:
        raise DeploymentFailed(f"{error}; run canary again to go on, or rollback to end it") from error


def figures(folder: Folder) -> dict[str, Any] | None:
    """The comparison that runs, with its figures; None where there is none, or where the server does not respond."""
    server = state.read(folder.report).get("server")
    if not server or not state.read(folder.wanted).get("candidate"):
        return None
    try:
        running: dict[str, Any] | None = server_of(server).model()["comparison"]
    except Refused:
        return None
    return running
