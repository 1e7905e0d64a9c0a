"""The servers of plants: each is started with its fault, and gives its URL."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.load.child_server import child_server
from bench.peers import environments, process
from bench.peers.litserve import LITSERVE as LITSERVE_PEER
from bench.peers.mlserver import MLSERVER as MLSERVER_PEER
from bench.peers.peer import HOST, Peer

from . import slipway
from .faulty_model import parse
from .models import path_of
from .plant import FASTAPI, FLASK, LITSERVE, MLSERVER, SLIPWAY, Plant

HERE = Path(__file__).parent
READY_WITHIN_S = 60.0
PEERS = {LITSERVE: LITSERVE_PEER, MLSERVER: MLSERVER_PEER}
APPS = {FASTAPI: ("fastapi_app", "async_app"), FLASK: ("", "flask_app")}
"""Modules that serve in the environment of bench: with the faulty model, and with the code of a user."""


@dataclass(frozen=True, slots=True)
class Environments:
    """``cache``: the folder with the environments of other servers, as for ``bench peers``. ``run_s``: of a load."""

    cache: Path = environments.DEFAULT_CACHE
    run_s: float = 12.0

    def missing(self, server: str) -> str | None:
        """Why this server cannot be used; None if it can."""
        try:
            self.python(server)
        except environments.Missing as why:
            return str(why)
        return None

    def python(self, server: str) -> Path | None:
        """The interpreter of a server's environment; None for the one of bench. Raises environments.Missing."""
        peer = PEERS.get(server)
        return None if peer is None else environments.python_of(peer, self.cache, install=False, say=print)


def start(plant: Plant, folder: Path, stack: ExitStack, envs: Environments) -> str:
    """The URL of inference requests to the planted server, which runs until the stack ends."""
    place = Path(tempfile.mkdtemp(dir=folder))
    if plant.server in APPS:
        by_faults, by_code = APPS[plant.server]
        module, given = (by_code, json.dumps(_code(plant))) if plant.code else (by_faults, plant.faults)
        return stack.enter_context(child_server(f"{__package__}.{module}", given)) + "/predict"
    if plant.server == SLIPWAY:
        _write(plant, place / "planted")
        return stack.enter_context(slipway.served(place / "planted", plant.serve)) + "/invocations"
    peer, python = PEERS[plant.server], envs.python(plant.server)
    assert python is not None
    return _peer(plant, peer, python, place, stack)


def _code(plant: Plant) -> dict[str, Any]:
    """The code of a user, with the path of the model that it names. Raises Unavailable."""
    given = dict(plant.code)
    if "model" in given:
        given["path"] = str(path_of(given.pop("model")))
    return given


def _write(plant: Plant, folder: Path) -> None:
    """The model folder of a plant on Slipway."""
    if plant.model is not None:
        plant.model(folder)
    elif plant.network is not None:
        slipway.network(folder, *plant.network)
    elif plant.code:
        slipway.users_script(folder, _code(plant))
    else:
        slipway.script(folder, plant.faults)


def _peer(plant: Plant, peer: Peer, python: Path, place: Path, stack: ExitStack) -> str:
    """LitServe or MLServer, from its own environment."""
    ports = process.free_ports(3)
    faults = parse(plant.faults)
    planted = {"port": ports[0], "faults": faults, "workers": max(plant.workers, 1), "code": _code(plant)}
    source = f"{peer.name}_app.py"
    texts = {name: (HERE / name).read_text(encoding="utf-8") for name in ("faulty_model.py", source)}
    texts["planted.json"] = json.dumps(planted)
    command = [str(python), source]
    if plant.server == MLSERVER:
        command = [str(python.parent / "mlserver"), "start", "."]
        texts |= _mlserver_settings(faults, ports)
    for name, text in texts.items():
        (place / name).write_text(text, encoding="utf-8")
    shutil.copytree(HERE / "users", place / "users", ignore=shutil.ignore_patterns("__pycache__"))
    cores = sorted(os.sched_getaffinity(0))
    environment = {**peer.environment, "PYTHONPATH": str(place)}  # workers of a pool start elsewhere
    running = stack.enter_context(process.running(command, place, environment, cores))
    running.wait_until_ready(ports[0], peer.ready, READY_WITHIN_S)
    return f"http://{HOST}:{ports[0]}{peer.route}"


def _mlserver_settings(faults: dict[str, float], ports: tuple[int, ...]) -> dict[str, str]:
    """One process: a pool of the pinned version does not start."""
    http_port, grpc_port, metrics_port = ports
    server = {
        "debug": False, "host": HOST, "http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port,
        "parallel_workers": 0,
    }  # fmt: skip
    model: dict[str, Any] = {"name": "model", "implementation": "mlserver_app.Planted", "parameters": {}}
    if "timer" in faults:
        model |= {"max_batch_size": 8, "max_batch_time": faults["timer"]}
    return {"settings.json": json.dumps(server), "model-settings.json": json.dumps(model)}


def bodies(plant: Plant, folder: Path) -> list[Path]:
    """The bodies of a plant's requests: its own, or one file for each of ``plant.numbers``."""
    if plant.bodies is not None:
        return plant.bodies(folder)
    paths = []
    for number, count in enumerate(plant.numbers):
        values = np.random.default_rng(number).standard_normal(count).round(6).tolist()
        path = folder / f"body_{number}.json"
        path.write_text(json.dumps(_body(plant, values)), encoding="utf-8")
        paths.append(path)
    return paths


def _body(plant: Plant, values: list[float]) -> dict[str, Any]:
    if plant.server == MLSERVER:
        return {"inputs": [{"name": "values", "shape": [1, len(values)], "datatype": "FP64", "data": values}]}
    if plant.network is None:
        return {"values": values}
    width = plant.network[0]
    data = (values * (plant.rows * width // max(len(values), 1) + 1))[: plant.rows * width]
    return {"inputs": [{"name": "x", "shape": [plant.rows, width], "datatype": "FP32", "data": data}]}
