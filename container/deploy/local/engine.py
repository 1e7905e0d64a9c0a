"""The commands of the local engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ...docker import has_image, unreachable_reason
from ..engines import Command
from ..errors import DeployError, InvalidDescription, NotThere
from ..order import Order
from ..plan import Action, Plan
from . import presence, registry, request, state, traffic, wanted
from .carrying import bring_about, carry_out, changing, remove
from .steps import Document, Found, compared, find, folder_of, require, served, standing, steps


def plan(order: Order) -> None:
    """Print the plan of ``up``, of a canary or of a shadow."""
    target, needed, found = _planned(order)
    made = Plan(order.description, tuple(steps(folder_of(order), found, target, needed)), used=wanted.USED)
    order.say(made.as_json() if order.json else made.as_text())


def _planned(order: Order) -> tuple[Document, Sequence[Document], Found]:
    asked = wanted.settings(order)
    if order.effect == "up":
        found = find(folder_of(order))
        return served(found, asked), [asked], found
    found = standing(require(order))
    return compared(found, traffic.candidate_of(order, found, asked)), [asked], found


def push(order: Order) -> None:
    """Copy the model into the engine's folder; an image has to be on this machine already."""
    asked = wanted.settings(order)
    if asked["image"]:
        reason = unreachable_reason()
        if reason is not None:
            raise DeployError(f"{reason}: start the docker engine, or leave out --local-image")
        if not has_image(asked["image"]):
            raise NotThere(f"the image {asked['image']} is not on this machine: build it with make image")
        order.say(f"nothing  image {asked['image']}: the docker engine of this machine holds it")
    with changing(order) as folder:
        found = find(folder)
        copies = next(iter(steps(folder, found, served(found, asked), [asked])))
        for one in copies.calls:
            carry_out(order, folder, one)
        where = folder.release(asked["release"])
    order.say(f"copied to {where}" if copies.action is Action.CREATE else "nothing to copy")


def up(order: Order) -> None:
    """Create or change the deployment, and wait until it is in service."""
    asked = wanted.settings(order)
    with changing(order) as folder:
        sent = bring_about(order, folder, served(find(folder), asked), [asked])
        url = state.read(folder.report).get("url", "")
    order.say(f"in service: {order.description.name} at {url}" + ("" if sent else "; nothing had to change"))


def update(order: Order) -> None:
    """As ``up``, for a deployment that exists."""
    require(order)
    up(order)


def scale(order: Order) -> None:
    """Change the number of instances: processes of the server behind its one address."""
    wanted.check(order.description)
    require(order)
    with changing(order) as folder:
        found = standing(folder)
        if found.stands.get("serverless"):
            raise InvalidDescription("a serverless endpoint has no instances: change --max-concurrency with up")
        if order.description.instance_count > 1 and wanted.PROCESSES in found.stands["environment"]:
            raise InvalidDescription(f"the deployment sets {wanted.PROCESSES}: leave it out of --env with up first")
        sent = bring_about(order, folder, {**found.stands, "instances": order.description.instance_count})
    order.say("scaled" if sent else "nothing had to change")


def status(order: Order) -> None:
    """Print what exists."""
    order.show(presence.document(require(order)))


def invoke(order: Order) -> None:
    """Send one request and print the response."""
    order.say(request.send(order, require(order)))


def logs(order: Order) -> None:
    """Print the newest lines of the log."""
    folder = require(order)
    lines = folder.log.read_text("utf-8", "replace").splitlines()[-order.lines :] if folder.log.exists() else []
    order.say(json.dumps({"lines": lines}) if order.json else "\n".join(lines))


def cost(order: Order) -> None:
    """Print the cost: nothing, unless the machine has a price, and what the server takes of the machine."""
    found = presence.cost(order)
    order.say(json.dumps(found, indent=2) if order.json else "\n".join(presence.as_text(found)))


def policy(order: Order) -> None:
    """Say that there is none."""
    where = wanted.root(order.description)
    order.say(f"no policy is needed: the local engine calls no service; it writes to {where}")


def down(order: Order) -> None:
    """Stop the host, and remove its containers and the folder of the deployment."""
    if not folder_of(order).root.is_dir():
        order.say("nothing to remove")
        return
    with changing(order) as folder:
        remove(order, folder)
    order.say(f"removed: {order.description.name}")


def register(order: Order) -> None:
    """Copy the artifact with its evidence into the registry's folder."""
    version, new = registry.register(order, wanted.root(order.description))
    order.say(f"{'registered' if new else 'registered already'}: {order.description.group} version {version}")


def approve(order: Order) -> None:
    """Approve or reject a version."""
    version, said = registry.approve(order, wanted.root(order.description))
    order.say(f"{said}: {order.description.group} version {version}")


COMMANDS: Mapping[str, Command] = {
    "push": push,
    "plan": plan,
    "up": up,
    "update": update,
    "status": status,
    "invoke": invoke,
    "scale": scale,
    "shadow": traffic.shadow,
    "canary": traffic.canary,
    "rollback": traffic.rollback,
    "register": register,
    "approve": approve,
    "logs": logs,
    "cost": cost,
    "policy": policy,
    "down": down,
}
