"""The main program of a worker process: loads one script and runs calls from its channel until the server closes it."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..artifact import Artifact, Batching, Manifest, VariableAxis
from ..errors import DeviceLost, NotReady, SlipwayError
from ..system import orphans
from ..target import ClosedShapes, DeviceTarget
from ..tensors import ModelSpec, TensorSpec
from .call import ScriptResponse, StateOwner
from .channel import Channel, ChannelBroken, Message, decode_calls, encode_error, encode_responses
from .chunks import Chunks
from .loaded_script import LoadedScript, ScriptConfig
from .onnx_model import independent_rows
from .script_module import describe_exception

log = logging.getLogger("slipway.scripts")

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def load_message(artifact: Artifact, config: ScriptConfig) -> dict[str, Any]:
    """The first message to a worker: which script of which model to load."""
    manifest = artifact.manifest
    return {
        "root": str(artifact.root),
        "name": manifest.name,
        "backend": manifest.backend,
        "model": manifest.model,
        "independent": independent_rows(artifact),
        "device": manifest.device.to_json(),
        "shapes": None if manifest.shapes is None else manifest.shapes.to_json(),
        "padding": None if manifest.padding is None else manifest.padding.to_json(),
        "inputs": [one.to_json() for one in manifest.spec.inputs],
        "outputs": [one.to_json() for one in manifest.spec.outputs],
        "prepacked": manifest.optimized,
        "config": {**asdict(config), "path": str(config.path)},
        "log_level": logging.getLogger().level,
    }


def main(descriptor: int) -> int:
    """Serve the channel at this descriptor. Returns the exit code."""
    orphans.end_with_parent()
    channel = Channel(socket.socket(fileno=descriptor))
    order, _ = channel.receive()
    logging.basicConfig(level=order["log_level"], format=LOG_FORMAT, stream=sys.stderr)
    try:
        script = LoadedScript(*_read(order))
    except BaseException as error:  # noqa: BLE001 - the server gets the reason of every failed load
        channel.send({"broken": str(error) if isinstance(error, SlipwayError) else describe_exception(error)})
        return 1
    channel.send({"most_calls": script.most_calls})
    orphans.look_after()
    owner = os.getpid()
    loop = WorkerLoop(script)
    while True:
        try:
            message = channel.receive()
        except ChannelBroken:
            return 0
        reply = loop.handle(message)
        if os.getpid() != owner:
            os._exit(0)  # the script forked and this is the child: it must not serve calls
        if reply is not None:
            channel.send(*reply)
        if loop.lost:
            return 1


@dataclass(slots=True)
class WorkerSession:
    """A stateful session whose state is in this process."""

    id: str
    data: dict[str, Any] = field(default_factory=dict)
    owner: StateOwner | None = None
    over: bool = False


class WorkerLoop:
    """Handles the server's messages: runs of calls, further chunks of the last run, ended sessions. ``lost``: this
    process has lost its GPU, and has to end after its reply."""

    def __init__(self, script: LoadedScript) -> None:
        self.lost = False
        self._script = script
        self._responses: Sequence[ScriptResponse] = ()
        self._sessions: dict[str, WorkerSession] = {}

    def handle(self, message: Message) -> Message | None:
        """The reply to a message, None if it needs none. Raises KeyError or TypeError for an invalid message."""
        document = message[0]
        if isinstance(document, list):
            return self._run(message)
        if "forget" in document:
            for identity in document["forget"]:
                self._sessions.pop(identity, None)
            return None
        index = document["next"] if "next" in document else document["drop"]
        chunks = self._responses[index].chunks
        if not isinstance(chunks, Chunks):
            raise TypeError("a response without chunks has no next chunk")
        if "drop" in document:
            chunks.close()
            return None
        try:
            chunk = chunks.next()
        except SlipwayError as error:
            return {"raised": encode_error(error)}, []
        return {"more": chunk is not None}, [chunk or b""]

    def _run(self, message: Message) -> Message:
        self._responses = ()
        calls = decode_calls(message, lambda identity: self._sessions.setdefault(identity, WorkerSession(identity)))
        try:
            self._responses = self._script.run(calls)
            return encode_responses(self._responses)
        except DeviceLost as error:
            log.critical("the GPU is lost; this process ends calls=%d", len(calls), exc_info=error)
            self.lost = True
            return {
                "raised": encode_error(NotReady("the script's process lost its GPU and is started anew; retry"))
            }, []
        except BaseException as error:
            log.error("a run failed calls=%d", len(calls), exc_info=error)
            return {"raised": encode_error(error)}, []


def _read(order: dict[str, Any]) -> tuple[Artifact, ScriptConfig]:
    declared = order["independent"]
    batching = None if declared is None else Batching(independent=declared)
    manifest = Manifest(
        order["name"],
        "1",
        order["backend"],
        order["model"],
        ModelSpec(*(tuple(map(TensorSpec.from_json, order[name])) for name in ("inputs", "outputs"))),
        batching=batching,
        padding=None if order["padding"] is None else VariableAxis.from_json(order["padding"]),
        device=DeviceTarget.from_json(order["device"]),
        shapes=None if order["shapes"] is None else ClosedShapes.from_json(order["shapes"]),
        provenance={"prepacked": order["prepacked"]},
    )
    config = ScriptConfig(**{**order["config"], "path": Path(order["config"]["path"])})
    return Artifact(Path(order["root"]), manifest, declared=False), config
