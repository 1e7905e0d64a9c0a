"""The scenario ``grpc``: calls a second against the HTTP hot path, and against an echo of the gRPC library alone."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.peers import networks
from server.grpc.inference_pb2 import ModelInferRequest
from tests.benchmarks.server.processes import LOAD_CORE, ROOT, Unmeasurable, free_port, served, slipway, wrk, wrk_script

CONNECTIONS = 32

ECHO = """
import asyncio, sys, grpc, uvloop

async def echo(body, context):
    return body

async def main():
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    table = {"ModelInfer": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", table),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    print("listening", flush=True)
    await server.wait_for_termination()

uvloop.run(main())
"""


def grpc(work: Path, rounds: int, seconds: int) -> None:
    """A model that takes no time: calls a second at 32 connections, in turns with HTTP and with a bare echo."""
    model = work / "perceptron.onnx"
    networks.perceptron(model)
    script, ours, ports = wrk_script(work / "post.lua"), free_port(), (free_port(), free_port())
    message = ModelInferRequest(model_name="perceptron", raw_input_contents=[np.full(64, 0.25, "<f4").tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=(1, 64))
    body = message.SerializeToString()
    rates: dict[str, list[float]] = {"HTTP": [], "gRPC": [], "echo": []}
    with (
        served(slipway(model, ours, "--grpc-port", str(ports[0])), ours, work / "slipway.log"),
        _echo(ports[1]),
    ):
        for _ in range(rounds):
            rates["HTTP"].append(wrk(ours, script, CONNECTIONS, seconds).rate)
            rates["gRPC"].append(_load(ports[0], seconds, body))
            rates["echo"].append(_load(ports[1], seconds, body))
    http, calls, bare = (statistics.median(one) for one in rates.values())
    print(
        f"grpc: {calls:,.0f} calls/s against {http:,.0f} HTTP requests/s: {calls / http:.0%} (wanted: 40 %); "
        f"the gRPC library alone: {bare:,.0f}/s, {bare / http:.0%}"
    )


def _load(port: int, seconds: int, body: bytes) -> float:
    module = "tests.benchmarks.server.grpc_load"
    command = ["taskset", "-c", LOAD_CORE, sys.executable, "-m", module, str(port), str(seconds), str(CONNECTIONS), "1"]
    done = json.loads(subprocess.run(command, cwd=ROOT, input=body, capture_output=True, check=True).stdout)
    if done["failures"]:
        raise Unmeasurable(f"{done['failures']} calls have failed")
    return float(done["rate"])


@contextlib.contextmanager
def _echo(port: int) -> Iterator[None]:
    """A gRPC server on the server's core that sends each message back."""
    command = ["taskset", "-c", "0", sys.executable, "-c", ECHO, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.terminate()
