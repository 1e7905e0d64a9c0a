"""The scenario ``grpc``: calls a second against the HTTP hot path, and against Triton's Python backend over gRPC."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.peers import networks
from bench.peers.environments import DEFAULT_CACHE, Missing, python_of
from bench.peers.peer import Deployment, service
from bench.peers.process import Failed, Running, free_ports, running
from bench.peers.triton import TRITON, WAIT_US
from server.grpc.inference_pb2 import ModelInferRequest
from tests.benchmarks.server.processes import (
    LOAD_CORE,
    ROOT,
    SERVER_CORE,
    Unmeasurable,
    cpu_s,
    free_port,
    served,
    slipway,
    wrk,
    wrk_script,
)

CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Triton:
    """Triton, and its port for gRPC."""

    running: Running
    port: int


@dataclass(slots=True)
class Measured:
    """Requests a second, and the server's processor seconds for each, of all rounds. ``cpu_s``: what it has used."""

    cpu_s: Callable[[], float]
    rates: list[float] = field(default_factory=list)
    costs_s: list[float] = field(default_factory=list)

    def add(self, load: Callable[[], float], seconds: int) -> None:
        """Run a load that returns its rate. The cost is little disturbed by other work on the machine."""
        before = self.cpu_s()
        rate = load()
        self.rates.append(rate)
        self.costs_s.append((self.cpu_s() - before) / (rate * seconds))

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cost_us(self) -> float:
        return statistics.median(self.costs_s) * 1e6


def grpc(work: Path, rounds: int, seconds: int) -> None:
    """A model that takes no time: calls a second at 32 connections, in turns with HTTP and with Triton, on one core."""
    model = work / "perceptron.onnx"
    networks.perceptron(model)
    script, ours, port = wrk_script(work / "post.lua"), free_port(), free_port()
    with (
        served(slipway(model, ours, "--grpc-port", str(port)), ours, work / "slipway.log") as process,
        _triton(work, model) as triton,
    ):
        http, calls = (Measured(lambda: cpu_s(process.pid)) for _ in range(2))
        other = None if triton is None else Measured(triton.running.cpu_s)
        for _ in range(rounds):
            http.add(lambda: wrk(ours, script, CONNECTIONS, seconds).rate, seconds)
            calls.add(lambda: _load(port, seconds, _message("perceptron")), seconds)
            if triton is not None and other is not None:
                other.add(lambda: _load(triton.port, seconds, _message("model")), seconds)
    _say("HTTP", http, http)
    _say("gRPC (wanted: 40 % of HTTP, twice Triton)", calls, http)
    if other is not None:
        _say("Triton's Python backend over gRPC", other, http)


def _say(name: str, one: Measured, http: Measured) -> None:
    share = f"{one.rate / http.rate:.0%} of HTTP, by processor time {http.cost_us / one.cost_us:.0%}"
    print(f"grpc: {name}: {one.rate:,.0f}/s, {one.cost_us:.1f} us of processor time each: {share}")


def _message(model: str) -> bytes:
    """A serialized request of one row."""
    message = ModelInferRequest(model_name=model, raw_input_contents=[np.full(64, 0.25, "<f4").tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=(1, 64))
    serialized: bytes = message.SerializeToString()
    return serialized


def _load(port: int, seconds: int, body: bytes) -> float:
    module = "tests.benchmarks.server.grpc_load"
    command = ["taskset", "-c", LOAD_CORE, sys.executable, "-m", module, str(port), str(seconds), str(CONNECTIONS), "1"]
    done = json.loads(subprocess.run(command, cwd=ROOT, input=body, capture_output=True, check=True).stdout)
    if done["failures"]:
        raise Unmeasurable(f"{done['failures']} calls have failed")
    return float(done["rate"])


@contextlib.contextmanager
def _triton(work: Path, model: Path) -> Iterator[Triton | None]:
    """Triton on the server's core. None where its environment is not installed."""
    try:
        python = python_of(TRITON, DEFAULT_CACHE, install=False, say=print)
    except Missing as missing:
        print(f"grpc: without Triton: {missing}")
        yield None
        return
    folder = work / "triton"
    folder.mkdir()
    deployment = Deployment(folder, python, free_ports(2), model, workers=1)
    files = service("triton", deployment, wait_us=WAIT_US, grpc_port=deployment.ports[1])
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    with running(TRITON.command(deployment), folder, TRITON.environment, [int(SERVER_CORE)]) as process:
        try:
            process.wait_until_ready(deployment.port, TRITON.ready, TRITON.ready_within_s)
        except Failed as failed:
            raise Unmeasurable(f"Triton: {failed}") from failed
        yield Triton(process, deployment.ports[1])
