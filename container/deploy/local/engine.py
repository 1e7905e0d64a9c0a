"""The commands of the local engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from urllib.parse import urlsplit

from ...local import sample
from ...local.call import Address, NoResponse, call
from ..calls import Call
from ..engines import Command
from ..errors import DeployError, InvalidDescription, NotThere
from ..order import Order
from ..plan import Plan
from . import registry, state
from .steps import carry_out, folder_of, host_call, require, root, steps, stop, wait, wanted

RESPONSE_S, ACCEPT_S = 60.0, 5.0


def plan(order: Order) -> int:
    """Print the plan."""
    made = Plan(order.description, tuple(steps(order, wanted(order))))
    order.say(made.as_json() if order.json else made.as_text())
    return 0


def up(order: Order) -> int:
    """Create or change the deployment, and wait until it is in service."""
    folder = folder_of(order.description)
    changes = [step for step in steps(order, wanted(order)) if step.calls]
    for step in changes:
        order.say(f"{step.action.value:<8} {step.resource}" + (f": {step.why}" if step.why else ""))
        for one in step.calls:
            order.observe(one)
            carry_out(order, folder, one)
        if step.wait:
            wait(order, folder)
    url = state.read(folder.report).get("url", "")
    order.say(f"in service: {order.description.name} at {url}" + ("" if changes else "; nothing had to change"))
    return 0


def update(order: Order) -> int:
    """As ``up``, for a deployment that exists."""
    require(order)
    return up(order)


def status(order: Order) -> int:
    """Print what exists."""
    folder = require(order)
    report, asked = state.read(folder.report), state.read(folder.wanted)
    there = state.running(folder)
    document = {
        "name": order.description.name,
        "endpoint": report.get("status") if there else "Stopped",
        "url": report.get("url") if there else None,
        "release": report.get("release"),
        "previous": asked.get("previous"),
        "failure": (report.get("failed") or {}).get("reason"),
    }
    if order.json:
        order.say(json.dumps(document, indent=2))
    else:
        for name, value in document.items():
            if value is not None:
                order.say(f"{name:<14} {value}")
    return 0


def invoke(order: Order) -> int:
    """Send one request and print the response."""
    folder = require(order)
    if not state.running(folder):
        raise NotThere(f"{order.description.name} is not running: run up")
    report = state.read(folder.report)
    if order.body is not None:
        try:
            body, content_type = order.body.read_bytes(), order.content_type
        except OSError as error:
            raise InvalidDescription(f"--body {order.body}: {error.strerror}") from error
    else:
        stored = sample.stored(state.model_of(folder.release(report["release"])))
        if stored is None:
            raise InvalidDescription(
                "there is no request: pass --body FILE, or deploy an artifact with a stored sample"
            )
        body, content_type = stored.body, stored.content_type
    where = urlsplit(report["url"])
    assert where.hostname is not None
    assert where.port is not None
    path = f"/endpoints/{order.description.name}/invocations"
    try:
        address = Address(where.hostname, where.port, ACCEPT_S)
        response = call(address, "POST", path, {"content-type": content_type}, body, within_s=RESPONSE_S)
    except NoResponse as error:
        raise DeployError(f"{order.description.name} does not answer: {error}; read logs") from error
    if not response.ok:
        raise DeployError(f"{response.status}: {response.text[:1_000]}")
    order.say(response.text)
    return 0


def rollback(order: Order) -> int:
    """Return to the release before."""
    folder = require(order)
    present = state.read(folder.wanted)
    previous = present.get("previous")
    if not previous or previous not in folder.releases():
        raise NotThere("there is no version before this one to return to")
    settings = state.read(folder.release(previous) / "settings.json")
    changed = {**settings, "previous": present["release"], "attempt": present["attempt"] + 1}
    for one in (Call("local", "PutDeployment", changed), *host_call(folder)):
        order.observe(one)
        carry_out(order, folder, one)
    wait(order, folder)
    order.say(f"in service again: {previous}")
    return 0


def logs(order: Order) -> int:
    """Print the newest lines of the log."""
    folder = require(order)
    lines = folder.log.read_text("utf-8", "replace").splitlines()[-order.lines :] if folder.log.exists() else []
    order.say(json.dumps({"lines": lines}) if order.json else "\n".join(lines))
    return 0


def down(order: Order) -> int:
    """Stop the host, and remove the folder of the deployment."""
    folder = folder_of(order.description)
    if not folder.root.is_dir():
        order.say("nothing to remove")
        return 0
    order.observe(Call("local", "StopHost", {"Name": order.description.name}))
    stop(order, folder)
    order.observe(Call("local", "DeleteDeployment", {"Name": order.description.name}))
    shutil.rmtree(folder.root)
    order.say(f"removed: {order.description.name}")
    return 0


def register(order: Order) -> int:
    """Copy the artifact with its evidence into the registry's folder."""
    version, new = registry.register(order, root(order.description))
    order.say(f"{'registered' if new else 'registered already'}: {order.description.group} version {version}")
    return 0


def approve(order: Order) -> int:
    """Approve or reject a version."""
    version, said = registry.approve(order, root(order.description))
    order.say(f"{said}: {order.description.group} version {version}")
    return 0


COMMANDS: Mapping[str, Command] = {
    "plan": plan,
    "up": up,
    "update": update,
    "status": status,
    "invoke": invoke,
    "rollback": rollback,
    "register": register,
    "approve": approve,
    "logs": logs,
    "down": down,
}
