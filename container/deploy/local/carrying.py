"""Execution of the steps: files, processes, and waiting. After a failure the deployment before serves again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from server import fatal

from ...children import ROOT
from ...docker import DockerFailed
from ...local.container import remove_labelled
from ..calls import Call
from ..errors import DeployError, DeploymentFailed, TookTooLong
from ..order import Order
from ..plan import Step
from . import state
from .state import IN_SERVICE, Folder
from .steps import Document, find, folder_of, steps

POLL_S, STOP_S = 0.1, 60.0
LOCK_S = 10.0
"""Longest time from the start of a host process to its lock."""


@contextmanager
def changing(order: Order) -> Iterator[Folder]:
    """The folder, held for this command alone. Raises DeployError where another command changes it."""
    folder = folder_of(order)
    with state.changing(folder) as mine:
        if not mine:
            raise DeployError(
                f"another command changes {order.description.name} now: wait for its end, and run {order.command} again"
            )
        state.tidy(folder)
        yield folder


def bring_about(order: Order, folder: Folder, target: Document, needed: Sequence[Document] = ()) -> int:
    """Carry out the steps to ``target``. Returns how many calls that took. Raises DeployError."""
    changes = [step for step in steps(folder, find(folder), target, needed) if step.calls]
    for step in changes:
        _run(order, folder, step)
    return sum(len(step.calls) for step in changes)


def _run(order: Order, folder: Folder, step: Step) -> None:
    order.say(step.line)
    for one in step.calls:
        carry_out(order, folder, one)
    if step.wait:
        wait(order, folder)


def carry_out(order: Order, folder: Folder, one: Call) -> None:
    """Do one call."""
    order.observe(one)
    given = dict(one.parameters)
    if one.operation == "PutRelease":
        state.put_release(folder, given)
    elif one.operation == "PutDeployment":
        found = find(folder)
        if found.stands:
            state.write(folder.before, dict(found.stands))
        state.write(folder.wanted, given)
    elif one.operation == "StartHost":
        _start(folder)
    elif one.operation == "StopHost":
        stop(order, folder)
    elif one.operation == "DeleteRelease":
        shutil.rmtree(folder.release(given["Release"]), ignore_errors=True)


def _start(folder: Folder) -> None:
    folder.report.unlink(missing_ok=True)  # of a host that was killed, which may say that all is as wanted
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
    """Wait until the wanted deployment is in service. Raises DeploymentFailed, after the one before serves again."""
    asked = state.read(folder.wanted)
    reason = _awaited(order, folder, asked)
    if reason:
        raise _failed(order, folder, asked, reason)


def _awaited(order: Order, folder: Folder, asked: dict[str, Any]) -> str:
    """Why the wanted deployment is not in service; "" once it is. Raises TookTooLong."""
    begun, clock = order.clock.now(), order.clock
    while True:
        report = state.read(folder.report)
        failed = report.get("failed") or {}
        if failed.get("attempt") == asked["attempt"]:
            return str(failed["reason"])
        if report.get("attempt") == asked["attempt"] and report["status"] == IN_SERVICE and state.running(folder):
            return ""
        if clock.now() - begun > LOCK_S and not state.running(folder):
            return "its host process ended; the last lines of the log say why"
        if clock.now() - begun > min(order.timeout_s, float(asked["startup_s"]) + STOP_S):
            raise TookTooLong(
                f"{order.description.name} is not in service yet: run {order.command} again to go on waiting, or "
                "read logs"
            )
        clock.sleep(POLL_S)


def _failed(order: Order, folder: Folder, asked: dict[str, Any], reason: str) -> DeployError:
    line = fatal.found_in(reason)
    said = f'first fatal line of the log: "{fatal.MARK}{line}"' if line else reason
    error = DeploymentFailed(
        f"{order.description.name} failed: {said}; check it: python -m container.local check ARTIFACT"
    )
    if not order.keep:
        _go_back(order, folder, asked)
    return error


def _go_back(order: Order, folder: Folder, asked: dict[str, Any]) -> None:
    """Serve the deployment before the failed one again, and remove the rest; without one before, remove all."""
    before = state.read(folder.before)
    if not before:
        remove(order, folder)
        return
    again = {**before, "attempt": asked["attempt"] + 1}
    state.write(folder.wanted, again)
    keep = {again["release"], again.get("previous"), (again.get("candidate") or {}).get("release")}
    for old in folder.releases() - keep:
        shutil.rmtree(folder.release(old), ignore_errors=True)
    if not state.running(folder):
        _start(folder)
    with contextlib.suppress(TookTooLong):
        _awaited(order, folder, again)


def remove(order: Order, folder: Folder) -> None:
    """Stop the host, and remove its containers and the folder."""
    stop(order, folder)
    if state.has_images(folder):
        try:
            remove_labelled(folder.label)
        except DockerFailed as error:
            raise DeployError(f"containers of {order.description.name} may be left: {error}; run down again") from error
    shutil.rmtree(folder.root)


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
        order.clock.sleep(POLL_S)
