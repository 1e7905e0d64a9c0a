"""A worker: a process that loads one script and answers calls from its channel, until the server closes it."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..artifact import Artifact, Manifest
from ..errors import SlipwayError
from ..system import orphans
from ..tensors import ModelSpec
from .call import Answer, Home
from .channel import Broken, Channel, Message, answers_out, calls_in, error_out
from .pieces import Pieces
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
    orphans.look_after()
    owner = os.getpid()
    desk = Desk(program)
    while True:
        try:
            message = channel.receive()
        except Broken:
            return 0
        said = desk.answer(message)
        if os.getpid() != owner:
            os._exit(0)  # the script forked, and this is the child
        if said is not None:
            channel.send(*said)


@dataclass(slots=True)
class Kept:
    """A session whose state lives in this process."""

    id: str
    data: dict[str, Any] = field(default_factory=dict)
    home: Home | None = None
    over: bool = False


class Desk:
    """What a worker does with a message: calls, or what concerns the answers to the last ones, or sessions."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._answers: Sequence[Answer] = ()
        self._sessions: dict[str, Kept] = {}

    def answer(self, message: Message) -> Message | None:
        """What to say to it; None: nothing. Raises KeyError or TypeError for what makes no sense."""
        asked = message[0]
        if isinstance(asked, list):
            return self._called(message)
        if "forget" in asked:
            for identity in asked["forget"]:
                self._sessions.pop(identity, None)
            return None
        index = asked["next"] if "next" in asked else asked["drop"]
        pieces = self._answers[index].pieces
        if not isinstance(pieces, Pieces):
            raise TypeError("an answer without pieces was asked for the next one")
        if "drop" in asked:
            pieces.close()
            return None
        try:
            piece = pieces.next()
        except SlipwayError as error:
            return {"raised": error_out(error)}, []
        return {"more": piece is not None}, [piece or b""]

    def _called(self, message: Message) -> Message:
        self._answers = ()
        calls = calls_in(message, lambda identity: self._sessions.setdefault(identity, Kept(identity)))
        try:
            self._answers = self._program.answer(calls)
            return answers_out(self._answers)
        except BaseException as error:
            log.error("%d calls failed together", len(calls), exc_info=error)
            return {"raised": error_out(error)}, []


def die_with_the_server() -> None:
    """Ask the kernel to kill this process when the thread that started it, and so the server, is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _read(told: dict[str, Any]) -> tuple[Artifact, Plan]:
    manifest = Manifest(told["name"], "1", told["backend"], told["model"], ModelSpec((), ()))
    plan = dict(told["plan"])
    return Artifact(Path(told["root"]), manifest, declared=False), Plan(**{**plan, "path": Path(plan["path"])})
