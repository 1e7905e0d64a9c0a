"""The commands of the Ray engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ...local.call import NoResponse
from .. import request
from ..documents import yaml_of
from ..engines import Command
from ..errors import DeployError, DeploymentFailed, InvalidDescription, Unreachable
from ..order import Order
from ..plan import Plan, Step
from . import application as applications
from . import cluster as clusters
from .cluster import Cluster, State
from .steps import carry_out, reason_of, removal, require, running, step, wait, wait_gone


def plan(order: Order) -> None:
    """Print what would change and the call for it. Asks the cluster; without one the plan is that for an empty one."""
    cluster, wanted = _cluster(order), _wanted(order)
    try:
        state, unknown = cluster.state(), ""
    except Unreachable as error:
        state, unknown = State(), str(error)
    made = Plan(order.description, (step(cluster, state, wanted, order.description),), unknown, used=applications.USED)
    order.say(made.as_json() if order.json else made.as_text())


def template(order: Order) -> None:
    """Print the config file of Ray Serve. Asks nothing."""
    order.say(yaml_of(applications.file(order.description, order.facts)).rstrip())


def up(order: Order) -> None:
    """Create or change the application, and wait until all its replicas serve the release."""
    cluster, wanted = _cluster(order), _wanted(order)
    state = cluster.state()
    change = step(cluster, state, wanted, order.description)
    _changed(order, cluster, state, change)


def _changed(order: Order, cluster: Cluster, before: State, change: Step) -> None:
    """Carry a step out and wait. A failure brings the application back to what it was, unless it is to be kept."""
    if change.calls:
        order.say(change.line)
    carry_out(order, cluster, change.calls)
    try:
        state = wait(order, cluster) if change.wait else before
    except DeploymentFailed as error:
        if order.keep or not change.calls:
            raise
        raise DeploymentFailed(f"{error}; {_brought_back(order, cluster, before)}") from error
    name = order.description.name
    order.say(f"in service: {name} at {_url(order, state)}" + ("" if change.calls else "; nothing had to change"))


def _brought_back(order: Order, cluster: Cluster, before: State) -> str:
    """Undo a change that failed, and say how that went."""
    name = order.description.name
    present = before.applications.get(name)
    order.say(f"undo     application {name}")
    try:
        if present is None:
            carry_out(order, cluster, removal(cluster, cluster.state(), name).calls)
            wait_gone(order, cluster)
            return "what was created is removed"
        config = present["deployed_app_config"]
        carry_out(order, cluster, step(cluster, cluster.state(), config, order.description).calls)
        wait(order, cluster)
    except DeployError as error:
        return f"and it could not be undone: {error}"
    return "the release before serves again"


def update(order: Order) -> None:
    """As ``up``, for a deployment that exists."""
    require(order, _cluster(order).state())
    up(order)


def scale(order: Order) -> None:
    """Change the number of replicas, or the bounds of auto scaling."""
    cluster = _cluster(order)
    state = cluster.state()
    config = dict(require(order, state)["deployed_app_config"])
    (present,) = config["deployments"]
    description = _with_target(order, present).description
    kept = {key: value for key, value in present.items() if key not in ("num_replicas", "autoscaling_config")}
    config["deployments"] = [{**kept, **applications.copies(description)}]
    applications.check(description)
    _changed(order, cluster, state, step(cluster, state, config, description))


def _with_target(order: Order, present: Mapping[str, Any]) -> Order:
    """The rows of the present policy where none are given."""
    description = order.description
    if description.max_instances is None or description.queue_rows is not None:
        return order
    policy = (present.get("autoscaling_config") or {}).get("policy") or {}
    rows = (policy.get("policy_kwargs") or {}).get("queue_rows")
    if rows is None:
        raise InvalidDescription("auto scaling needs a target: pass --queue-rows")
    return replace(order, description=replace(description, queue_rows=rows))


def status(order: Order) -> None:
    """Print what exists."""
    state = _cluster(order).state()
    found = require(order, state)
    config = found["deployed_app_config"]
    document = {
        "name": order.description.name,
        "endpoint": found.get("status"),
        "url": _url(order, state),
        "release": config["args"]["release"],
        "model": config["args"]["model"],
        "replicas": running(found),
        "message": reason_of(found) if found.get("status") != "RUNNING" else "",
    }
    order.show(document)


def invoke(order: Order) -> None:
    """Send one request through Ray's proxy and print the response."""
    state = _cluster(order).state()
    found = require(order, state)
    model = order.facts.model
    body, content_type = request.body_of(order, model.path if model is not None else None)
    url = _url(order, state)
    try:
        response = request.send(url, f"{found['route_prefix']}/invocations", {"content-type": content_type}, body)
    except NoResponse as error:
        raise Unreachable(
            f"Ray's proxy at {url} does not answer ({error}): it may listen on its node only; see --host"
        ) from error
    order.say(response.text)


def logs(order: Order) -> None:
    """Print the newest lines of the log of each replica, which holds its server's."""
    cluster = _cluster(order)
    found = require(order, cluster.state())
    lines: list[str] = []
    for one in clusters.replicas(found):
        if not one.get("log_file_path"):
            continue  # it has not started
        try:
            lines += cluster.log(str(one["node_id"]), str(one["log_file_path"]).lstrip("/"), order.lines)
        except DeployError as error:
            lines.append(f"the log of the replica on {one['node_ip']} cannot be read: {error}")
    order.say(json.dumps({"lines": lines}) if order.json else "\n".join(lines))


def down(order: Order) -> None:
    """Remove the application, and wait until its replicas have ended."""
    cluster = _cluster(order)
    state = cluster.state()
    if order.description.name not in state.applications:
        order.say("nothing to remove")
        return
    require(order, state)
    change = removal(cluster, state, order.description.name)
    carry_out(order, cluster, change.calls)
    wait_gone(order, cluster)
    order.say(f"removed: {order.description.name}" + (f": {change.why}" if change.why else ""))


def _cluster(order: Order) -> Cluster:
    return clusters.at(str(order.description.cluster))


def _wanted(order: Order) -> dict[str, Any]:
    if order.from_registry:
        raise InvalidDescription("the engine ray has no registry: pass the artifact")
    return applications.application(order.description, order.facts)


def _url(order: Order, state: State) -> str:
    """The address of the deployment at the proxy of the dashboard's host."""
    host = urlsplit(str(order.description.cluster)).hostname
    return f"http://{host}:{state.http.get('port')}{applications.route(order.description)}"


COMMANDS: Mapping[str, Command] = {
    "plan": plan,
    "template": template,
    "up": up,
    "update": update,
    "status": status,
    "invoke": invoke,
    "scale": scale,
    "logs": logs,
    "down": down,
}
