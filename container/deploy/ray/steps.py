"""The steps of the Ray engine: from what the cluster runs to what is wanted, and the wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server import fatal

from ..calls import Call
from ..description import Description
from ..errors import DeployError, DeploymentFailed, InvalidDescription, NameTaken, NotThere, TookTooLong
from ..order import Order
from ..plan import Action, Step
from . import application as applications
from .cluster import Cluster, State, replicas

RUNNING = "RUNNING"
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
POLL_S = 0.5
SHOWN_CHARACTERS = 300
NO_SLIPWAY = "No module named 'container'"
"""In Ray's message where a node cannot import the application."""
PUT, SHUT_DOWN = "PutApplications", "ShutDownServe"


def step(cluster: Cluster, state: State, wanted: Mapping[str, Any], description: Description) -> Step:
    """What happens to the application. Raises NameTaken and InvalidDescription."""
    name = description.name
    present = state.applications.get(name)
    _check_free(state, wanted)
    _check_proxies(state, description)
    config = {**(state.options or applications.options(description)), "applications": _with(state, wanted)}
    change = Call("ray", PUT, config, line=cluster.command("PUT", config))
    if present is None:
        return Step(Action.CREATE, "application", name, (change,), wait=True)
    before = present["deployed_app_config"]
    if not within(wanted, before):
        return Step(Action.UPDATE, "application", name, (change,), _difference(wanted, before), wait=True)
    if present.get("status") in FAILED:
        return Step(Action.UPDATE, "application", name, (change,), f"it is {present['status']}", wait=True)
    return Step(Action.NOTHING, "application", name, wait=present.get("status") != RUNNING)


def removal(cluster: Cluster, state: State, name: str) -> Step:
    """The end of an application. With the last one of a cluster Serve ends too, whose proxies have nothing to pass."""
    if len(state.applications) == 1:
        call = Call("ray", SHUT_DOWN, {}, line=cluster.command("DELETE"))
        return Step(Action.DELETE, "application", name, (call,), "the last one; Serve ends with it", wait=True)
    config = {**state.options, "applications": [one for one in state.configs() if one["name"] != name]}
    return Step(
        Action.DELETE, "application", name, (Call("ray", PUT, config, line=cluster.command("PUT", config)),), wait=True
    )


def carry_out(order: Order, cluster: Cluster, calls: tuple[Call, ...]) -> None:
    """Send the calls of a step."""
    for one in calls:
        order.observe(one)
        if one.operation == PUT:
            cluster.put(one.parameters)
        else:
            cluster.shut_down()


def require(order: Order, state: State) -> Mapping[str, Any]:
    """The application of the order. Raises NotThere, or NameTaken where it is none of ours."""
    name = order.description.name
    found = state.applications.get(name)
    if found is None:
        raise NotThere(f"there is no deployment {name} on {order.description.cluster}: run up first")
    if not applications.ours(found):
        raise NameTaken(f"the application {name} of {order.description.cluster} was not made by this command: leave it")
    return found


def within(wanted: Any, present: Any) -> bool:
    """Whether all that is wanted stands in ``present``, which may hold defaults beside it."""
    if isinstance(wanted, Mapping) and isinstance(present, Mapping):
        return all(within(value, present.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(present, list):
        return len(wanted) == len(present) and all(map(within, wanted, present))
    return bool(wanted == present)


def wait(order: Order, cluster: Cluster) -> State:
    """Wait until the application runs with all its replicas. Raises DeploymentFailed and TookTooLong."""
    name, begun, said = order.description.name, order.clock.now(), ""
    while True:
        state = cluster.state()
        found = state.applications.get(name, {})
        if found.get("status") == RUNNING:
            return state
        reason = reason_of(found)
        if found.get("status") in FAILED:
            raise _failed(name, reason)
        if reason not in ("", said):
            order.say(f"waiting  application {name}: {reason}")
            said = reason
        if order.clock.now() - begun > order.timeout_s:
            raise TookTooLong(
                f"{name} does not run yet ({reason or found.get('status')}): run up again to go on waiting, "
                "or read logs"
            )
        order.clock.sleep(POLL_S)


def wait_gone(order: Order, cluster: Cluster) -> None:
    """Wait until the application and its replicas have ended. Raises TookTooLong."""
    name, begun = order.description.name, order.clock.now()
    while name in cluster.state().applications:
        if order.clock.now() - begun > order.timeout_s:
            raise TookTooLong(f"{name} has not ended yet: run down again to go on waiting")
        order.clock.sleep(POLL_S)


def reason_of(found: Mapping[str, Any]) -> str:
    """Why an application does not run: the server's fatal line if there is one, else the end of Ray's message."""
    messages = [str(made.get("message") or "") for made in (found.get("deployments") or {}).values()]
    text = "\n".join([str(found.get("message") or ""), *messages])
    if NO_SLIPWAY in text:
        return "the nodes do not find Slipway; start Ray with PYTHONPATH=CHECKOUT on each of them"
    line = fatal.found_in(text)
    if line is not None:
        return fatal.MARK + line
    lines = [one.strip() for one in text.splitlines() if one.strip()]
    return lines[-1][:SHOWN_CHARACTERS] if lines else ""


def _failed(name: str, reason: str) -> DeployError:
    return DeploymentFailed(f"{name} failed: {reason or 'Ray gives no reason'}; read logs")


def _check_free(state: State, wanted: Mapping[str, Any]) -> None:
    name, route = wanted["name"], wanted["route_prefix"]
    for other, found in state.applications.items():
        if other == name and not applications.ours(found):
            raise NameTaken(
                f"the cluster has an application {name} that this command did not make: pass another --name"
            )
        if other != name and found.get("route_prefix") == route:
            raise NameTaken(f"the application {other} of the cluster serves {route} already: pass another --name")


def _check_proxies(state: State, description: Description) -> None:
    """Serve reads host and port of its proxies when it starts."""
    for name in ("host", "port"):
        asked, present = getattr(description, name), state.http.get(name)
        if present not in (None, asked) and not description.source(name).startswith("default"):
            raise InvalidDescription(
                f"Serve runs on this cluster already, with {name} {present}: leave --{name} out, or end Serve first"
            )


def _with(state: State, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The applications of the cluster with ours in its place, or at the end."""
    sent = state.configs()
    if any(one["name"] == wanted["name"] for one in sent):
        return [dict(wanted) if one["name"] == wanted["name"] else one for one in sent]
    return [*sent, dict(wanted)]


def _difference(wanted: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """In words: another release replaces the replicas; other settings change their number or limits."""
    old, new = (before.get("args") or {}).get("release"), wanted["args"]["release"]
    if old != new:
        return f"release {old} becomes {new}; the replicas are replaced in turns"
    changed = [key for key, value in wanted["deployments"][0].items() if not within(value, _first(before).get(key))]
    return ", ".join(f"{key}: {_first(before).get(key)} becomes {wanted['deployments'][0][key]}" for key in changed)


def _first(config: Mapping[str, Any]) -> Mapping[str, Any]:
    deployments = config.get("deployments") or [{}]
    first: Mapping[str, Any] = deployments[0]
    return first


def running(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """State and node of each replica."""
    return [{"state": str(one.get("state")), "node": str(one.get("node_ip"))} for one in replicas(found)]
