"""The steps of the local engine: from what its folder holds to what is wanted, and how each is carried out."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server import fatal

from ...local.container import ROOT
from ..calls import Call, digest_of
from ..description import Description
from ..errors import DeployError, DeploymentFailed, InvalidDescription, NotThere, TookTooLong
from ..order import Order
from ..plan import Action, Step
from . import registry, state
from .state import IN_SERVICE, Folder

LOOK_S, STOP_S = 0.1, 60.0
LOCK_S = 10.0
"""A host that runs holds its lock long before."""

STARTUP_S = 240


def root(description: Description) -> Path:
    return Path(description.state).expanduser().resolve()


def folder_of(description: Description) -> Folder:
    return Folder(root(description) / "deployments" / description.name)


def require(order: Order) -> Folder:
    folder = folder_of(order.description)
    if not folder.wanted.exists():
        raise NotThere(f"there is no deployment {order.description.name} in {folder.root.parent}: run up first")
    return folder


def wanted(order: Order) -> dict[str, Any]:
    """What the host shall run. Raises InvalidDescription for what this engine lacks."""
    description = order.description
    for name in ("multi_model", "asynchronous", "inference_component", "serverless"):
        if getattr(description, name):
            flag = "--" + name.replace("_", "-")
            raise InvalidDescription(
                f"the local engine has no {flag}: leave it out, or use python -m container.local serve"
            )
    if "/" in description.name or description.name.startswith("."):
        raise InvalidDescription("--name takes letters, digits and inner hyphens")
    model = _model(order)
    settings = {
        "name": description.name,
        "image": description.local_image,
        "environment": dict(description.environment),
        "startup_s": description.startup_timeout or STARTUP_S,
        "port": description.port,
        "model": str(model[0]),
        "digest": model[1],
    }
    content = {key: value for key, value in settings.items() if key not in ("model", "port")}
    return {**settings, "release": digest_of(content)}


def _model(order: Order) -> tuple[Path, str]:
    """The folder or archive to deploy, and its digest."""
    if order.from_registry:
        return registry.approved(order, root(order.description))
    source = order.facts.source
    if source is None or source.remote is not None:
        raise InvalidDescription("the local engine takes a model of this machine: pass a folder or its model.tar.gz")
    return source.files[""].path.resolve(), source.files[""].digest


def steps(order: Order, asked: dict[str, Any]) -> Iterator[Step]:
    """From what exists to what is wanted."""
    folder = folder_of(order.description)
    release, present = asked["release"], state.read(folder.wanted)
    report, there = state.read(folder.report), state.running(folder)
    if release in folder.releases():
        yield Step(Action.NOTHING, "release", release)
    else:
        yield Step(Action.CREATE, "release", release, (Call("local", "PutRelease", asked),))
    name = order.description.name
    previous = present.get("release") if present.get("release") != release else present.get("previous")
    failed = (report.get("failed") or {}).get("attempt") == present.get("attempt") if present else False
    moved = bool(present) and present.get("port") != asked["port"]
    same = present.get("release") == release and not moved and not failed
    if same:
        yield Step(Action.NOTHING, "deployment", name)
    else:
        before = present.get("previous") if previous == present.get("release") else None
        deployment = {**asked, "previous": previous, "before": before, "attempt": present.get("attempt", 0) + 1}
        action = Action.UPDATE if present else Action.CREATE
        yield Step(action, "deployment", name, (Call("local", "PutDeployment", deployment),))
    if same and there and report.get("release") == release and report.get("status") == IN_SERVICE:
        yield Step(Action.NOTHING, "endpoint", name)
    else:
        stop = (Call("local", "StopHost", {"Name": name}),) if there and moved else ()
        start = (Call("local", "StartHost", {"Name": name}),) if moved or not there else ()
        # A host that runs notices the wanted deployment by itself.
        calls = (*stop, *start) or (Call("local", "AwaitHost", {"Name": name}),)
        yield Step(Action.UPDATE if there else Action.CREATE, "endpoint", name, calls, wait=True)
    for old in sorted(folder.releases() - {release, previous}):
        call = Call("local", "DeleteRelease", {"Name": name, "Release": old})
        yield Step(Action.DELETE, "release", old, (call,), "no longer used")


def host_call(folder: Folder) -> tuple[Call, ...]:
    return () if state.running(folder) else (Call("local", "StartHost", {"Name": folder.root.name}),)


def carry_out(order: Order, folder: Folder, one: Call) -> None:
    given = dict(one.parameters)
    if one.operation == "PutRelease":
        target = folder.release(given["release"])
        state.copy(Path(given["model"]), target)
        state.write(target / "settings.json", given)
    elif one.operation == "PutDeployment":
        state.write(folder.wanted, given)
    elif one.operation == "StartHost":
        _start(folder)
    elif one.operation == "StopHost":
        stop(order, folder)
    elif one.operation == "DeleteRelease":
        shutil.rmtree(folder.release(given["Release"]), ignore_errors=True)


def _start(folder: Folder) -> None:
    with folder.log.open("a", encoding="utf-8") as log:
        subprocess.run(
            [sys.executable, "-m", "container.deploy.local.host", str(folder.root)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,  # it forks, and its child outlives this command
        )


def wait(order: Order, folder: Folder) -> None:
    """Wait until the wanted attempt is in service. Raises DeploymentFailed, with the release before still serving."""
    begun, clock = order.clock.now(), order.clock
    asked = state.read(folder.wanted)
    while True:
        report = state.read(folder.report)
        failed = report.get("failed") or {}
        if failed.get("attempt") == asked["attempt"]:
            raise _failed(order, folder, asked, str(failed["reason"]))
        if report.get("release") == asked["release"] and report["status"] == IN_SERVICE and state.running(folder):
            return
        if clock.now() - begun > LOCK_S and not state.running(folder):
            raise _failed(order, folder, asked, "its host process ended; the last lines of the log say why")
        if clock.now() - begun > min(order.timeout_s, float(asked["startup_s"]) + STOP_S):
            raise TookTooLong(
                f"{order.description.name} is not in service yet: run up again to go on waiting, or read logs"
            )
        clock.sleep(LOOK_S)


def _failed(order: Order, folder: Folder, asked: dict[str, Any], reason: str) -> DeployError:
    line = fatal.found_in(reason)
    said = f'first fatal line of the log: "{fatal.MARK}{line}"' if line else reason
    error = DeploymentFailed(
        f"{order.description.name} failed: {said}; check it: python -m container.local check ARTIFACT"
    )
    if order.keep:
        return error
    if asked.get("previous"):
        settings = state.read(folder.release(asked["previous"]) / "settings.json")
        state.write(folder.wanted, {**settings, "previous": asked.get("before"), "attempt": asked["attempt"] + 1})
        shutil.rmtree(folder.release(asked["release"]), ignore_errors=True)
    else:
        stop(order, folder)
        shutil.rmtree(folder.root, ignore_errors=True)
    return error


def stop(order: Order, folder: Folder) -> None:
    """SIGTERM to the host, and wait for its end. Raises TookTooLong."""
    begun = order.clock.now()
    while state.running(folder):
        pid = state.holder(folder)
        if order.clock.now() - begun >= STOP_S:
            raise TookTooLong(f"the host of {order.description.name} does not end: kill process {pid}")
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        order.clock.sleep(LOOK_S)
