"""Stages: the server on the device against its own session without a server; memory; a lost device; what is refused."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.integration.server_process import ROOT, Answer, ServerProcess

from . import sessions
from .networks import LENGTH, MINILM, RESNET, Network
from .record import NotRun, Record
from .stages import Place

PATIENCE_S = 100.0
SHARE_OF_BARE, COMPUTE_SHARE = 0.9, 0.6
"""The goals: rows a second against the bare session at the same batches, and compute's share of latency."""

REFUSED, UNANSWERED = -1, 0
BINARY = "application/octet-stream"
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Scenario:
    """``clients`` callers in a closed loop, each with ``rows`` rows a request. ``goals``: what is judged."""

    clients: int
    rows: int
    goals: tuple[str, ...] = ()


RATE, COMPUTE = "rate", "compute"
SCENARIOS = (Scenario(1, 1), Scenario(32, 1, (COMPUTE,)), Scenario(32, 8, (RATE,)), Scenario(256, 1))
"""The rate is judged where requests bring enough rows to keep a GPU busy, latency where no request waits for a batch
that it could not join."""


def served(place: Place, record: Record) -> None:
    """MiniLM and ResNet-50 in half precision, at 1, 32 and 256 clients; MiniLM with two instances, too."""
    for network in (MINILM, RESNET):
        root = artifact(place, network)
        bare = _bare(place, record, network, root)
        with serving(place, root) as server:
            _alike(place, record, network, server)
            for scenario in SCENARIOS:
                _load(place, record, network, server, scenario, bare, "")
        if network is MINILM:
            with serving(place, root, "--instances", "2") as server:
                _load(place, record, network, server, SCENARIOS[2], bare, "two instances, ")


def rows_of(place: Place) -> tuple[int, ...]:
    return (1, 2, 4, 8, 16, 32, 64, 128) if place.device == "cuda" else (1, 2, 4)


def artifact(place: Place, network: Network, name: str = "") -> Path:
    """An artifact for the device with the half-precision graph; every axis but the batch has one size."""
    import onnx

    from server.artifact import Batching, Manifest, write
    from server.target import ClosedShapes, DeviceTarget
    from server.tensors import BY_ONNX, ModelSpec, TensorSpec

    name = name or network.name
    root = place.work / f"artifact-{name}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    model = onnx.load(network.path(place, "float16"))
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim[1:]:
            if not dim.HasField("dim_value"):
                dim.dim_value = LENGTH
    onnx.save(model, root / "model.onnx")
    session = sessions.open_session(Place("cpu", place.work), root / "model.onnx")
    feeds = network.feeds(1, place)
    outputs = sessions.run(session, feeds)
    inputs = tuple(
        TensorSpec(node.name, BY_ONNX[node.type], (-1, *feeds[node.name].shape[1:])) for node in session.get_inputs()
    )
    results = tuple(
        TensorSpec(node.name, BY_ONNX[node.type], (-1, *one.shape[1:]))
        for node, one in zip(session.get_outputs(), outputs, strict=True)
    )
    sizes = rows_of(place)
    manifest = Manifest(
        name=name,
        version="1",
        backend="onnxruntime",
        model="model.onnx",
        spec=ModelSpec(inputs, results),
        batching=Batching(sizes, 1, 1, independent=True),
    )
    if place.on_gpu:
        target, shapes = DeviceTarget("cuda", least_sm=70), ClosedShapes(sizes)
        manifest = replace(manifest, backend="onnxruntime_cuda", device=target, shapes=shapes)
    write(root, manifest)
    return root


@contextmanager
def serving(
    place: Place, root: Path, *flags: str, command: Sequence[str] = (), ready: bool = True
) -> Iterator[ServerProcess]:
    """The server with an artifact, ready, until the block ends. Raises AssertionError with its log otherwise."""
    arguments = ["--model", str(root), "--port", "0", "--admin", *flags]
    server = ServerProcess(arguments, {}, place.work / f"{root.name}.log")
    try:
        server.listen()
        end = time.monotonic() + PATIENCE_S
        while ready and server.get("/ping").status != 200:
            if time.monotonic() > end or server.process.poll() is not None:
                raise AssertionError(f"the server is not ready: {server.log()[-1500:]}")
            time.sleep(0.05)
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
        try:
            server.process.wait(10)
        except subprocess.TimeoutExpired:
            server.process.kill()
        server.end()


def body(network: Network, feeds: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """A binary request of the Open Inference Protocol, and its headers."""
    kinds = {"float32": "FP32", "int64": "INT64"}
    raws = {name: np.ascontiguousarray(value).tobytes() for name, value in feeds.items()}
    head = {
        "inputs": [
            {
                "name": name,
                "shape": list(value.shape),
                "datatype": kinds[value.dtype.name],
                "parameters": {"binary_data_size": len(raws[name])},
            }
            for name, value in feeds.items()
        ],
        "outputs": [{"name": network.output, "parameters": {"binary_data": True}}],
    }
    text = json.dumps(head).encode()
    return text + b"".join(raws.values()), {"Content-Type": BINARY, HEADER_LENGTH: str(len(text))}


def answer_of(reply: Answer) -> Any:
    """The float32 values of a binary answer with one output, flat. Raises AssertionError for another status."""
    assert reply.status == 200, f"{reply.status}: {reply.body[:400]!r}"
    return np.frombuffer(reply.body[int(reply.headers[HEADER_LENGTH.lower()]) :], np.float32)


def _alike(place: Place, record: Record, network: Network, server: ServerProcess) -> None:
    """The server answers what the float32 graph answers on the CPU, to the noise of half precision."""
    feeds = network.feeds(3, place)
    wanted = sessions.run(sessions.open_session(Place("cpu", place.work), network.path(place)), feeds)
    content, headers = body(network, feeds)
    got = answer_of(server.request("POST", f"/v2/models/{network.name}/infer", content, headers))
    decibels = sessions.signal_to_noise_db([wanted[0].ravel()], [got])
    record.check(f"{network.name}: the answers", decibels > 35, f"{decibels:.1f} dB against float32", of_values=True)


def _bare(place: Place, record: Record, network: Network, root: Path) -> dict[int, float]:
    """Seconds of a run of each bucket in the server's own session, in a loop without a server."""
    from server.artifact import read
    from server.backends import BackendOptions, loader

    found = read(root)
    options = BackendOptions(threads=1, target=found.manifest.device, shapes=found.manifest.shapes)
    session = loader(found.manifest.backend)(found.model_path, options)
    taken: dict[int, float] = {}
    try:
        for rows in rows_of(place):
            batch = list(network.feeds(rows, place).values())
            taken[rows] = _busy_seconds(lambda batch=batch: session.run(batch), 1)
            record.figure(f"{network.name}: bare session, batch {rows}", rows / taken[rows], "rows/s")
            if place.on_gpu and rows in (1, 32, 128):
                two_s = _busy_seconds(lambda batch=batch: session.run(batch), 2)
                record.figure(f"{network.name}: bare session, two threads, batch {rows}", rows / two_s, "rows/s")
    finally:
        session.close()
    return taken


def _busy_seconds(action: Any, threads: int, for_s: float = 0.3) -> float:
    """Wall-clock seconds of one action while so many threads repeat it."""
    action()
    counts, end = [0] * threads, time.perf_counter() + for_s

    def repeat(number: int) -> None:
        while time.perf_counter() < end:
            action()
            counts[number] += 1

    begun = time.perf_counter()
    members = [threading.Thread(target=repeat, args=(number,)) for number in range(threads)]
    for one in members:
        one.start()
    for one in members:
        one.join()
    return (time.perf_counter() - begun) / max(sum(counts), 1)


def _load(
    place: Place,
    record: Record,
    network: Network,
    server: ServerProcess,
    scenario: Scenario,
    bare: Mapping[int, float],
    how: str,
) -> None:
    """A closed loop by the project's own load generator, against the bare session at the same batches."""
    rows = scenario.rows if place.device == "cuda" else min(scenario.rows, 2)
    clients = scenario.clients if place.device == "cuda" else min(scenario.clients, 4)
    content, headers = body(network, network.feeds(rows, place))
    payload = place.work / f"{network.name}-{rows}.bin"
    payload.write_bytes(content)
    seconds = "2.5" if place.device == "cuda" else "1"
    command = [
        *(sys.executable, "-m", "bench", "run", f"http://127.0.0.1:{server.port}/v2/models/{network.name}/infer"),
        *(
            "--payload",
            str(payload),
            "--content-type",
            BINARY,
            "--header",
            f"{HEADER_LENGTH}: {headers[HEADER_LENGTH]}",
        ),
        *("--users", str(clients), "--duration", seconds, "--warmup", "0.7", "--skip-calibration", "--json"),
        *("--connections", "256", "--processes", "4" if clients >= 32 else "1"),
    ]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    label = f"{network.name}: {how}{scenario.clients} clients x {scenario.rows} rows"
    try:
        found = json.loads(said.stdout)
    except ValueError:
        record.check(f"{label}: measured", False, f"bench said: {said.stderr.strip()[-400:]}")
        return
    _judge(record, label, scenario, found, rows, bare)


def _judge(record: Record, label: str, scenario: Scenario, found: Any, rows: int, bare: Mapping[int, float]) -> None:
    rate = found["throughput"]["goodput_per_s"] * rows
    sizes = [(int(one["rows"]), int(one["runs"])) for one in found["explanation"]["batching"]["sizes"]]
    ran = sum(size * runs for size, runs in sizes)
    alone_s = sum(runs * bare[min((b for b in bare if b >= size), default=max(bare))] for size, runs in sizes)
    share = rate / (ran / alone_s) if alone_s else 0.0
    means = found["server"]["stage_means_ms"]
    compute = means["compute"] / sum(means.values())
    record.figure(f"{label}: rate", rate, "rows/s")
    record.figure(f"{label}: of the bare session at the same batches", share * 100, "%")
    record.figure(f"{label}: compute's share of latency", compute * 100, "%")
    record.figure(f"{label}: mean batch", ran / max(sum(runs for _, runs in sizes), 1), "rows")
    for kind, trusted in (("corrected", ""), ("untrusted", ", which bench does not trust")):
        for name, one in (found["latency"][kind] or {}).items():
            if name in ("p50", "p99") and one["value_ms"] is not None:
                record.figure(f"{label}: {name}{trusted}", one["value_ms"], "ms")
    if not found["validity"]["ok"]:
        record.fact(f"{label}: doubts of bench", found["validity"]["reasons"])
    record.fact(f"{label}: stages, ms", {name: round(value, 3) for name, value in means.items()})
    record.check(f"{label}: no errors", not found["errors"] and rate > 0, found["errors"] or f"{rate:,.0f} rows/s")
    if RATE in scenario.goals:
        enough = share >= SHARE_OF_BARE
        record.check(f"{label}: >= 90 % of the bare session", enough, f"{share:.1%}", of_values=True)
    if COMPUTE in scenario.goals:
        record.check(f"{label}: compute >= 60 % of latency", compute >= COMPUTE_SHARE, f"{compute:.1%}", of_values=True)


def refused(place: Place, record: Record) -> None:
    """A graph that was optimized for a processor is refused on a GPU, with the reason, before the server is ready."""
    if not place.on_gpu:
        raise NotRun("it needs the CUDA provider")
    import onnxruntime as ort

    from server.backends import BackendOptions, loader
    from server.errors import SlipwayError
    from server.target import DeviceTarget

    mapped = place.work / "resnet50-mapped.onnx"
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(mapped)
    ort.InferenceSession(str(RESNET.path(place)), settings, providers=["CPUExecutionProvider"])
    for name, optimized in (("as declared", True), ("undeclared", False)):
        options = BackendOptions(threads=1, target=DeviceTarget("cuda"), optimized=optimized)
        try:
            loader("onnxruntime_cuda")(mapped, options).close()
        except SlipwayError as error:
            record.check(f"a mapped file, {name}", "CPU" in str(error) or "processor" in str(error), str(error)[:400])
        else:
            record.check(f"a mapped file, {name}", False, "it was accepted")
    root = artifact(place, MINILM, "elsewhere")
    document = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    document["device"] |= {"sm": 75}
    (root / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "serve.py", "--model", str(root), "--port", "0"],
        cwd=ROOT, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.strip()]
    record.check("an artifact for SM 75 ends the server", done.returncode != 0, f"exit code {done.returncode}")
    record.check("the last line names the SM", "7.5" in said[-1] or "75" in said[-1], said[-1][:400])


def memory(place: Place, record: Record) -> None:
    """Device memory comes back after unload, and the second unload leaves no more than the first."""
    if not place.on_gpu:
        raise NotRun("it needs a GPU")
    root = artifact(place, MINILM)
    with serving(place, root) as server:
        after_load = _used_bytes()
        left = []
        for _ in range(3):
            status = server.request("POST", f"/v2/repository/models/{MINILM.name}/unload", b"{}").status
            record.check("unload", status == 200, status)
            left.append(min(_used_bytes() for _ in _moments()))
            status = server.request("POST", f"/v2/repository/models/{MINILM.name}/load", b"{}").status
            record.check("load", status == 200, status)
        again = _used_bytes()
    record.figure("device memory with the model", after_load / 1e6, "MB")
    record.figure("device memory after unload", left[0] / 1e6, "MB")
    weights = (root / "model.onnx").stat().st_size
    freed, more, again_more = after_load - left[0], left[2] - left[0], again - after_load
    told = f"{freed / 1e6:.0f} MB freed of {weights / 1e6:.0f} MB"
    record.check("unload frees the weights", freed >= 0.9 * weights, told, of_values=True)
    record.check("no leak over three loads", more <= 32e6, f"{more / 1e6:.0f} MB more", of_values=True)
    record.check("a reload takes as much", abs(again_more) <= 64e6, f"{again_more / 1e6:.0f} MB more", of_values=True)


def _moments() -> Iterator[int]:
    """Ten instants within a second: an unload answers before its last run has ended."""
    for number in range(10):
        yield number
        time.sleep(0.1)


def _used_bytes() -> int:
    """Used memory of the first GPU, of all processes. The fake counts that of this process only."""
    from server.system import gpu

    return gpu.read().devices[0].used_bytes


def lost(place: Place, record: Record) -> None:
    """A device that is lost under load: every request is answered, /ping fails at once, the server ends with 1."""
    if not place.on_gpu:
        raise NotRun("it needs a GPU")
    root = artifact(place, MINILM)
    content, headers = body(MINILM, MINILM.feeds(2, place))
    route = f"/v2/models/{MINILM.name}/infer"
    command = [sys.executable, "-m", "tests.gpu.breakable", place.device, "--model", str(root), "--port", "0"]
    log = place.work / "lost.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        port = _listening(process, log)
        server = _Client(port)
        _until(lambda: server.get("/ping") == 200, process, log)
        record.check("it answers before", server.post(route, content, headers)[0] == 200)
        statuses: list[int] = []
        ends: list[str] = []
        deadline = time.monotonic() + 30

        def ask() -> None:
            caller, status = _Client(port), 200
            while status == 200 and time.monotonic() < deadline:
                status = caller.post(route, content, headers)[0]
            statuses.append(status)
            ends.append(caller.failure)

        members = [threading.Thread(target=ask) for _ in range(8)]
        for one in members:
            one.start()
        time.sleep(1.0)
        process.send_signal(signal.SIGUSR2)
        for one in members:
            one.join(60)
        record.fact("the last status of each of 8 callers", sorted(statuses))
        record.fact("failures of connections", sorted(ends))
        record.check("every caller is told", len(statuses) == 8 and 200 not in statuses, sorted(statuses))
        record.check("none is left without an answer", UNANSWERED not in statuses, sorted(statuses))
        record.check("the loss is answered", 503 in statuses, sorted(statuses))
        code = process.wait(30)
        record.check("the server ends with a code that restarts it", code not in (0, -signal.SIGUSR2), code)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if "CRIT" in line]
    record.fact("its last words", (said or ["none"])[-1][:400])


class _Client:
    """Requests on one connection that is kept alive. Status ``REFUSED`` where nobody listens any more, and
    ``UNANSWERED`` where the connection ended without an answer; ``failure`` says how."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.failure = ""

    def get(self, path: str) -> int:
        return self._ask("GET", path, None, {})[0]

    def post(self, path: str, content: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        return self._ask("POST", path, content, headers)

    def _ask(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, content, dict(headers))
            reply = self._connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self.failure = f"{type(error).__name__}: {error}"
            return REFUSED if isinstance(error, ConnectionRefusedError) else UNANSWERED, b""


def _listening(process: subprocess.Popen[bytes], log: Path) -> int:
    found: list[int] = []

    def look() -> bool:
        match = re.search(r"listening on http://\S+:(\d+)", log.read_text(encoding="utf-8", errors="replace"))
        found.extend([int(match[1])] if match else [])
        return bool(match)

    _until(look, process, log)
    return found[-1]


def _until(look: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not look():
        if time.monotonic() > end or process.poll() is not None:
            raise AssertionError(f"the server did not come up: {log.read_text(errors='replace')[-1500:]}")
        time.sleep(0.05)
