"""A worker: a process that loads one script and answers calls from its channel, until the server closes it."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..artifact import Artifact, Manifest
from ..errors import SlipwayError
from ..tensors import ModelSpec
from .channel import Broken, Channel, answers_out, calls_in, error_out
from .program import Plan, Program
from .script import described

log = logging.getLogger("slipway.handlers")

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
PR_SET_PDEATHSIG = 1


def order(artifact: Artifact, plan: Plan) -> dict[str, Any]:
    """What a worker is told first: which script, of which model."""
    manifest = artifact.manifest
    return {
        "root": str(artifact.root),
        "name": manifest.name,
        "backend": manifest.backend,
        "model": manifest.model,
        "plan": {**asdict(plan), "path": str(plan.path)},
        "log_level": logging.getLogger().level,
    }


def main(descriptor: int) -> int:
    """Serve the channel at this descriptor. Returns the exit code."""
    die_with_the_server()
    channel = Channel(socket.socket(fileno=descriptor))
    told, _ = channel.receive()
    logging.basicConfig(level=told["log_level"], format=LOG_FORMAT, stream=sys.stderr)
    try:
        program = Program(*_read(told))
    except BaseException as error:  # noqa: BLE001 - whatever a script does at load, the server is told
        channel.send({"broken": str(error) if isinstance(error, SlipwayError) else described(error)})
        return 1
    channel.send({"most_calls": program.most_calls})
    owner = os.getpid()
    while True:
        try:
            calls = calls_in(channel.receive())
        except Broken:
            return 0
        try:
            message = answers_out(program.answer(calls))
        except BaseException as error:
            log.error("%d calls failed together", len(calls), exc_info=error)
            message = {"raised": error_out(error)}, []
        if os.getpid() != owner:
            os._exit(0)  # the script forked, and this is the child
        channel.send(*message)


def die_with_the_server() -> None:
    """Ask the kernel to kill this process when the thread that started it, and so the server, is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _read(told: dict[str, Any]) -> tuple[Artifact, Plan]:
    manifest = Manifest(told["name"], "1", told["backend"], told["model"], ModelSpec((), ()))
    plan = dict(told["plan"])
    return Artifact(Path(told["root"]), manifest, declared=False), Plan(**{**plan, "path": Path(plan["path"])})
