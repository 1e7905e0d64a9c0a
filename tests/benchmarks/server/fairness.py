"""A hog beside a light model on one core: what the light one feels, by how the models share the device."""

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
HOG_USERS = 32
BUSY_USERS = 8
LIGHT_LOAD = 0.2
"""How busy the light model alone would keep the core."""

SIZES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Felt:
    """One stretch of time: the light model's latency and answers a second, and the hog's answers a second."""

    p50_s: float
    p99_s: float
    light_rate: float
    hog_rate: float


def fairness(work: Path, rounds: int, seconds: float) -> None:
    """The light model alone, and beside a hog with one and with four instances, under each way to share, in turns."""
    for instances in (1, 4):
        folder = work / f"beside-{instances}"
        _model(folder / "hog" / "1", "hog", Batching(SIZES, instances, 1), channels=64, layers=12)
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
                felt: dict[str, list[Felt]] = {"alone": [], **{sharing: [] for sharing in SHARINGS}}
                for turn in range(rounds):
                    felt["alone"].append(_felt(ports["kernel"], light, 0, seconds, turn))
                    for sharing in SHARINGS:
                        felt[sharing].append(_felt(ports[sharing], light, HOG_USERS, seconds, turn))
                _tell(name, light, instances, felt)


def _tell(name: str, rate: float, instances: int, felt: dict[str, list[Felt]]) -> None:
    what = f"{rate:.0f} requests/s" if rate else f"{BUSY_USERS} busy users"
    print(f"fairness: a light model with {what} beside a hog of {HOG_USERS} users on {instances} instances:")
    alone = felt.pop("alone")
    base = {field: statistics.median(getattr(one, field) for one in alone) for field in Felt.__slots__}
    for sharing, stretches in {"alone": alone, **felt}.items():
        seen = {field: statistics.median(getattr(one, field) for one in stretches) for field in Felt.__slots__}
        p50_s, p99_s = seen["p50_s"], seen["p99_s"]
        print(
            f"fairness: {name:5} {sharing:6} p50 {p50_s * 1e3:6.2f} ms ({p50_s / base['p50_s']:5.2f} x), "
            f"p99 {p99_s * 1e3:6.2f} ms ({p99_s / base['p99_s']:5.2f} x), "
            f"light {seen['light_rate']:6.0f}/s ({seen['light_rate'] / base['light_rate']:4.0%}), "
            f"hog {seen['hog_rate']:6.0f}/s"
        )


def _felt(port: int, rate: float, hog_users: int, seconds: float, seed: int) -> Felt:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        light, hog = runner.run(_ask_both(port, rate, hog_users, seconds, seed))
    ok = light.columns["outcome"] == Outcome.OK
    if not ok.all():
        raise RuntimeError(f"{int((~ok).sum())} requests to the light model failed: {light.failures}")
    latency_s = (light.columns["last_byte_ns"] - light.columns["due_ns"]) / 1e9
    p50_s, p99_s = np.quantile(latency_s, (0.5, 0.99))
    return Felt(float(p50_s), float(p99_s), len(latency_s) / seconds, _answered(hog) / seconds)


async def _ask_both(port: int, rate: float, hog_users: int, seconds: float, seed: int) -> tuple[RawRun, RawRun | None]:
    light = shot(port, "/v2/models/light/infer")
    if rate:
        asked = engine.send(light, schedule.build("poisson", rate, seconds, seed))
    else:
        asked = engine.send(light, Callers(BUSY_USERS, seconds))
    if not hog_users:
        return await asked, None
    hog = engine.send(shot(port, "/v2/models/hog/infer"), Callers(hog_users, seconds))
    first, second = await asyncio.gather(asked, hog)
    return first, second


def _answered(run: RawRun | None) -> int:
    return 0 if run is None else int((run.columns["outcome"] == Outcome.OK).sum())


def _model(root: Path, name: str, batching: Batching, channels: int, layers: int) -> None:
    """An artifact with instances of its own: flags would give every model the same."""
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
