"""A heavy model beside a light one on one core: the light one's latency under each way to share the device."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from bench.load import engine, schedule
from bench.load.callers import Callers
from bench.load.measurements import Outcome
from bench.load.raw_run import RawRun
from bench.peers import networks
from server import artifact
from server.artifact import Batching, Manifest
from server.backends import BackendOptions, loader
from tests.benchmarks.server.processes import free_port, served, slipway
from tests.benchmarks.server.swap import row_seconds, shot

SHARINGS = ("kernel", "turns", "strict")
HEAVY_USERS = 32
BUSY_USERS = 8
LIGHT_LOAD = 0.2
"""Utilisation of the core by the light model alone."""

SIZES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement: the light model's latency and rate, and the heavy model's rate."""

    p50_s: float
    p99_s: float
    light_rate: float
    heavy_rate: float


def fairness(work: Path, rounds: int, seconds: float) -> None:
    """The light model alone, and beside a heavy one with one and with four instances, under each way to share."""
    for instances in (1, 4):
        folder = work / f"beside-{instances}"
        _model(folder / "heavy" / "1", "heavy", Batching(SIZES, instances, 1), channels=64, layers=12)
        _model(folder / "light" / "1", "light", Batching(SIZES, 1, 1), channels=24, layers=4)
        with contextlib.ExitStack() as stack:
            ports = {}
            for sharing in SHARINGS:
                port = ports[sharing] = free_port()
                flags = ("--sharing", sharing, "--default-model", "light", "--inline-below-us", "0")
                arguments = _without(slipway(folder, port, *flags), "--instances", "--threads")
                stack.enter_context(served(arguments, port, work / f"{sharing}.log"))
            rate = LIGHT_LOAD / row_seconds(ports["kernel"])
            for name, light in (("light", rate), ("busy", 0.0)):
                measured: dict[str, list[Measured]] = {"alone": [], **{sharing: [] for sharing in SHARINGS}}
                for turn in range(rounds):
                    measured["alone"].append(_measure(ports["kernel"], light, 0, seconds, turn))
                    for sharing in SHARINGS:
                        measured[sharing].append(_measure(ports[sharing], light, HEAVY_USERS, seconds, turn))
                _print(name, light, instances, measured)


def _print(name: str, rate: float, instances: int, measured: dict[str, list[Measured]]) -> None:
    what = f"{rate:.0f} requests/s" if rate else f"{BUSY_USERS} busy users"
    print(f"fairness: a light model with {what} beside a heavy model of {HEAVY_USERS} users on {instances} instances:")
    alone = measured.pop("alone")
    base = {field: statistics.median(getattr(one, field) for one in alone) for field in Measured.__slots__}
    for sharing, stretches in {"alone": alone, **measured}.items():
        seen = {field: statistics.median(getattr(one, field) for one in stretches) for field in Measured.__slots__}
        p50_s, p99_s = seen["p50_s"], seen["p99_s"]
        print(
            f"fairness: {name:5} {sharing:6} p50 {p50_s * 1e3:6.2f} ms ({p50_s / base['p50_s']:5.2f} x), "
            f"p99 {p99_s * 1e3:6.2f} ms ({p99_s / base['p99_s']:5.2f} x), "
            f"light {seen['light_rate']:6.0f}/s ({seen['light_rate'] / base['light_rate']:4.0%}), "
            f"heavy {seen['heavy_rate']:6.0f}/s"
        )


def _measure(port: int, rate: float, heavy_users: int, seconds: float, seed: int) -> Measured:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        light, heavy = runner.run(_send_both(port, rate, heavy_users, seconds, seed))
    ok = light.columns["outcome"] == Outcome.OK
    if not ok.all():
        raise RuntimeError(f"{int((~ok).sum())} requests to the light model failed: {light.failures}")
    latency_s = (light.columns["last_byte_ns"] - light.columns["due_ns"]) / 1e9
    p50_s, p99_s = np.quantile(latency_s, (0.5, 0.99))
    return Measured(float(p50_s), float(p99_s), len(latency_s) / seconds, _answered(heavy) / seconds)


async def _send_both(
    port: int, rate: float, heavy_users: int, seconds: float, seed: int
) -> tuple[RawRun, RawRun | None]:
    light = shot(port, "/v2/models/light/infer")
    if rate:
        asked = engine.send(light, schedule.build("poisson", rate, seconds, seed))
    else:
        asked = engine.send(light, Callers(BUSY_USERS, seconds))
    if not heavy_users:
        return await asked, None
    heavy = engine.send(shot(port, "/v2/models/heavy/infer"), Callers(heavy_users, seconds))
    first, second = await asyncio.gather(asked, heavy)
    return first, second


def _answered(run: RawRun | None) -> int:
    return 0 if run is None else int((run.columns["outcome"] == Outcome.OK).sum())


def _model(root: Path, name: str, batching: Batching, channels: int, layers: int) -> None:
    """Write an artifact that sets its own instances: flags would give every model the same number."""
    root.mkdir(parents=True)
    path = root / "model.onnx"
    networks.convolutions(path, channels=channels, layers=layers)
    session = loader("onnxruntime")(path, BackendOptions(threads=1))
    spec = session.spec
    session.close()
    artifact.write(root, Manifest(name, "1", "onnxruntime", path.name, spec, batching=batching))


def _without(arguments: list[str], *flags: str) -> list[str]:
    """Arguments without some flags and their values."""
    kept = list(arguments)
    for flag in flags:
        at = kept.index(flag)
        del kept[at : at + 2]
    return kept
