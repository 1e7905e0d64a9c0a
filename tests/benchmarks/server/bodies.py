"""Large npy bodies on one core: processor time of a request against a row of the bare session, and that of reading.

The server is one core, and the core is the limit: the share of processor time is the share of rows a second. Unlike a
rate it can be measured beside other programs.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.benchmarks.server.processes import (
    ROOT,
    SERVER_CORE,
    Unmeasurable,
    cpu_s,
    free_port,
    served,
    slipway,
    wrk,
)

CONNECTIONS = 8
CHANNELS = (3, 48, 96, 192)
BARE = """
import sys, time, numpy as np
from pathlib import Path
from server.backends import BackendOptions, loader
session = loader("onnxruntime")(Path(sys.argv[1]), BackendOptions(threads=1))
best_s = float("inf")
for size in (1, 2, 4, 8):
    rows = [np.full((size, 3, 48, 192), 0.25, np.float32)]
    session.run(rows)
    until, count, begun_s = time.perf_counter() + float(sys.argv[2]) / 4, 0, time.process_time()
    while time.perf_counter() < until:
        session.run(rows)
        count += size
    best_s = min(best_s, (time.process_time() - begun_s) / count)
print(best_s * 1e6)
"""


def bodies(work: Path, rounds: int, seconds: int) -> None:
    """A network over an image of 110 kB: processor time of a row in its bare session, of a request, of reading it."""
    model = work / "image.onnx"
    network(model)
    large, small = _script(work / "large.lua", (1, 3, 48, 192)), _script(work / "small.lua", (1, 3, 2, 2))
    ours, echo = free_port(), free_port()
    bare, full, tiny, read, least = [], [], [], [], []
    with (
        served(slipway(model, ours), ours, work / "slipway.log") as server,
        served(["-m", "tests.benchmarks.server.drain", str(echo)], echo, work / "drain.log") as drain,
    ):
        for _ in range(rounds):
            bare.append(_bare_us(model, seconds))
            full.append(_spent_us(ours, server.pid, large, seconds))
            tiny.append(_spent_us(ours, server.pid, small, seconds))
            read.append(_spent_us(echo, drain.pid, large, seconds))
            least.append(_spent_us(echo, drain.pid, small, seconds))
    row_us = statistics.median(bare)
    share = statistics.median(one / other for one, other in zip(bare, full, strict=True))
    reading_us = statistics.median(one - other for one, other in zip(read, least, strict=True))
    print(
        f"bodies: processor time of a row in the bare session {row_us:,.0f} us, of a request "
        f"{statistics.median(full):,.0f} us: {share:.1%} of it is the session's"
    )
    print(
        f"bodies: a request of 12 numbers {statistics.median(tiny):.0f} us; a server that only reads: a small body "
        f"{statistics.median(least):.0f} us, 110 kB {reading_us:.0f} us more, {reading_us / row_us:.1%} of a row"
    )


def network(path: Path) -> None:
    """Write three convolutions with stride 2 over a float32 image [batch, 3, 48, 192]: about a millisecond a row."""
    random, nodes, weights, last = np.random.default_rng(0), [], [], "x"
    for at, (fan_in, fan_out) in enumerate(itertools.pairwise(CHANNELS)):
        values = random.standard_normal((fan_out, fan_in, 3, 3)) / np.sqrt(fan_in * 9)
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{at}"))
        nodes += [
            helper.make_node("Conv", [last, f"w{at}"], [f"c{at}"], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Relu", [f"c{at}"], [f"r{at}"]),
        ]
        last = f"r{at}"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "height", "width"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CHANNELS[-1]]),
    ]
    graph = helper.make_graph(nodes, "image", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def _bare_us(model: Path, seconds: int) -> float:
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-c", BARE, str(model), str(seconds)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def _spent_us(port: int, pid: int, script: Path, seconds: int) -> float:
    """The processor time of the server for one request in microseconds. Raises Unmeasurable when one fails."""
    before_s = cpu_s(pid)
    load = wrk(port, script, CONNECTIONS, seconds)
    if load.failures:
        raise Unmeasurable(f"{load.failures} requests failed")
    return (cpu_s(pid) - before_s) / (load.rate * seconds) * 1e6


def _script(path: Path, shape: tuple[int, ...]) -> Path:
    """A wrk script that posts an npy array of this shape."""
    body = path.with_suffix(".npy")
    np.save(body, np.random.default_rng(0).random(shape, np.float32))
    path.write_text(
        f'local file = io.open("{body}", "rb")\n'
        'wrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/x-npy"\n'
        'wrk.body = file:read("*a")\n'
        "file:close()\n",
        encoding="ascii",
    )
    return path
