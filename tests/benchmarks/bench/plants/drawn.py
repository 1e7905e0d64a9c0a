"""Drawn plants: the known faults, each with a strength, a server and a load drawn at random from a seed.

Strengths are such that the fault is most of the latency around p99, by the arithmetic beside each draw (milliseconds on
one core of a machine with two). Nobody chooses them, so that a new seed is a measurement that no rule was made for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from . import models, slipway
from .around import IN_GROUP, burners, client_quota, crowded_client, proxied, quota, stopping, stopping_at_random
from .models import DETECTOR
from .plant import FASTAPI, FLASK, ITS_OWN, LITSERVE, MLSERVER, SLIPWAY, Plant
from .programs import BUILD, BURN, HOG

_TITLE = re.compile(r": drawn (\d+)\.(\d+) ")
OVERHEAD_MS = {SLIPWAY: 2.0, FASTAPI: 2.0, FLASK: 3.0, LITSERVE: 5.0, MLSERVER: 5.0}
"""CPU time of server and client beside the model, for a small body."""
ALL = (SLIPWAY, FASTAPI, FLASK, LITSERVE, MLSERVER)
WITH_CODE = ALL[:3]
"""Servers that take the code of a user; the others have the faulty model."""
MANY = ("--instances", "12")
STARVED = ("chrt", "--other", "0", "taskset", "-c", "0")
Given = dict[str, Any]


class Draw:
    """Random values of one plant."""

    def __init__(self, seed: int, number: int) -> None:
        self._random = random.Random(f"{seed}.{number}")

    def of(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def between(self, low: float, high: float) -> float:
        """Log-uniform, with three digits."""
        return float(f"{low * (high / low) ** self._random.random():.3g}")

    def whole(self, low: int, high: int) -> int:
        return round(self.between(low, high))


def works(server: str, ms: float) -> Given:
    """A model that computes for so long without the interpreter's lock."""
    if server in WITH_CODE:
        return {"code": {"kind": "hashes", "rounds": max(round(3 * ms), 1)}}
    return {"faults": f"base=0 sort={ms / 1e3:.4f}"}


def rate_of(server: str, ms: float, share: float, cores: float = 1.0) -> float:
    """Requests/s of which each takes ``ms``, so that this share of the cores is busy."""
    return float(f"{share * cores * 1e3 / (ms + OVERHEAD_MS[server]):.3g}")


def own(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    ms = draw.between(1, 25)
    return ITS_OWN, {**works(server, ms), "rate": rate_of(server, ms, 0.12)}


def capacity(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    ms = draw.between(8, 30)
    # 10 % above what two cores can do, the generator's part aside: a backlog of a second and more after 15.
    load = draw.of({"rate": rate_of(server, ms, draw.between(1.1, 1.5), 2)}, {"users": draw.whole(12, 40)})
    return ("capacity",), {**works(server, ms), **load, "serve": ("--script-workers", "2"), "workers": 2}


def serial(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    ms, busy = draw.between(10, 50), draw.between(0.68, 0.82)
    load = draw.of({"rate": float(f"{busy * 1e3 / (ms + 1):.3g}")}, {"users": draw.whole(4, 9)})
    fault = "sleep" if server == LITSERVE else "lock"
    if server == FLASK:
        return ("serial",), {"code": {"kind": "slots", "slots": 1, "seconds": ms / 1e3}, **load}
    return ("serial",), {"faults": f"base=0 {fault}={ms / 1e3:.4f}", **load, "serve": MANY}


def batch_timer(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    ms = draw.between(15, 90)
    if server == SLIPWAY:
        size = draw.of((64, 64, 2), (256, 128, 2), (1_000, 300, 2))
        serve = ("--max-queue-delay-us", str(round(ms * 1e3)))
        return ("batch_timer",), {"network": size, "serve": serve, "rate": draw.between(8, 50)}
    if server == FLASK:
        code = {"kind": "window", "for_s": ms / 1e3, "size": 12}
        return ("batch_timer",), {"code": code, "rate": draw.between(8, 20)}
    return ("batch_timer",), {"faults": f"base=0.001 timer={ms / 1e3:.4f}", "rate": draw.between(8, 20)}


def codec(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    count, rate = draw.whole(25_000, 80_000), draw.between(2, 6)
    if server == SLIPWAY and draw.of(True, False):
        width = draw.whole(4_000, 20_000)
        body = draw.of(models.nested, models.wordy, models.csv)
        return ("codec",), {"network": (width, 16, 1), "bodies": body(max(count // width, 1), width), "rate": rate}
    if server in WITH_CODE:
        return ("codec",), {"code": {"kind": "floats", "count": count}, "rate": rate}
    return ("codec",), draw.of({"numbers": (count,)}, {"faults": f"base=0.001 reply={count}"}) | {"rate": rate}


def bandwidth(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    kilobytes, ms = draw.between(30, 120), draw.between(60, 300)
    # The way is busy for a third of the time.
    rate = float(f"{330 / ms:.3g}")
    bytes_per_s = kilobytes * 1e6 / ms
    given: Given = {"numbers": (round(kilobytes * 100),), "rate": rate}  # some ten characters for a number
    given |= {"code": {"kind": "light"}} if server in WITH_CODE else {"faults": "base=0"}
    if draw.of(True, False):
        return ("bandwidth",), {**given, "around": proxied(draw.of("rate", "uploads"), bytes_per_s)}
    link = f"tbf rate {round(bytes_per_s * 8 / 1e3)}kbit burst 8kb latency 900ms"
    return ("bandwidth",), {**given, "link": link}


def network_latency(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    kind, ms = draw.of("delay", "jitter", "flush"), draw.between(8, 60)
    work_ms = draw.between(0.5, ms / 6)
    given = works(server, work_ms)
    return ("network_latency",), {**given, "rate": draw.between(6, 20), "around": proxied(kind, ms / 1e3)}


def model_size(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    megabytes = draw.whole(200, 400)
    if server == SLIPWAY:
        layers = draw.whole(2, 4)
        hidden = round((megabytes * 1e6 / 4 / layers) ** 0.5)
        return ("model_size",), {"network": (hidden, hidden, layers), "rate": draw.between(2, 4), "rows": 1}
    if server == FLASK:
        return ("model_size", "hardware"), {"code": {"kind": "weights", "megabytes": megabytes}, "rate": 3.0}
    return ("model_size", "hardware"), {"faults": f"base=0 weights={megabytes}000000", "rate": draw.between(2, 4)}


def hardware(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    ms = draw.between(30, 90)
    given = works(server, ms)
    if server in WITH_CODE:
        code = draw.of({"kind": "computes", "seconds": ms / 1e3}, {"kind": "compresses", "kilobytes": round(45 * ms)})
        given = draw.of(given, {"code": code})
    return ("hardware",), {**given, "rate": rate_of(server, ms, 0.1)}


def cpu_quota(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    ms, cores, busy = draw.between(10, 25), draw.between(0.2, 0.5), draw.between(0.7, 0.85)
    period_us = draw.of(100_000, 100_000, 50_000)
    given = {"rate": rate_of(server, ms, busy, cores), "around": quota(cores, period_us)}
    return ("cpu_quota",), {**works(server, ms), **given}


def neighbour(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    ms = draw.between(8, 30)
    around = burners(draw.whole(3, 6), draw.of(BURN, HOG, BUILD))
    return ("neighbour",), {**works(server, ms), "rate": rate_of(server, ms, 0.15), "around": around}


def stall(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    rate, for_s = draw.between(20, 50), draw.between(0.08, 0.5)
    how = draw.of("even", "random", "garbage")
    given = works(server, draw.between(0.5, 4))
    if how == "garbage" and server in WITH_CODE:
        # Some 0.1 us for each object, and a collection every second.
        code = {"kind": "collects", "every": round(rate), "objects": draw.whole(1_500_000, 3_500_000)}
        return ("stall",), {"code": code, "rate": rate}
    every_s = for_s * draw.between(3, 15)  # 6 to 25 % of the time is a stop
    around = stopping_at_random(every_s, for_s / 2, for_s) if how == "random" else stopping(every_s, for_s)
    return ("stall",), {**given, "rate": rate, "around": around}


def threads(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    # 20 ms each on two cores.
    count = draw.whole(8, 20)
    if server in WITH_CODE and (server == FLASK or draw.of(True, False)):
        code = {"kind": "session", "model": DETECTOR, "side": draw.of(160, 192, 224), "threads": count}
        return ("threads",), {"code": code, "rate": draw.between(1.5, 2.5)}
    return ("threads",), {"faults": f"base=0 threads={count}", "rate": float(f"{20 / count:.3g}")}


def padding(draw: Draw, _server: str) -> tuple[tuple[str, ...], Given]:
    short, longest = draw.whole(12, 32), draw.whole(600, 1_000)
    lengths = [*[short] * draw.whole(3, 6), longest]
    model = partial(slipway.padded, hidden=draw.whole(192, 320), longest=longest)
    given = {"model": model, "bodies": partial(slipway.rows_of, lengths), "users": draw.whole(7, 12)}
    return ("padding", "serial", "capacity"), given


def input_size(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    ms, others = draw.between(35, 100), draw.whole(5, 11)
    # The long ones keep a tenth of a core busy.
    rate = float(f"{min(100 * (others + 1) / ms, 25):.3g}")
    if server in WITH_CODE:
        words = round(14 * ms**0.5)  # 180 take 60 ms
        bodies = draw.of(
            ({"kind": "distance"}, models.json_texts(*[8] * others, round(words * 1.5))),
            ({"kind": "tokens"}, models.texts_in_json(*[20] * others, round(ms * 200))),
        )
        return ("input_size",), {"code": bodies[0], "bodies": bodies[1], "rate": rate}
    numbers = (*[64] * others, round(ms * 250))
    return ("input_size",), {"faults": "base=0.001 length=0.000004", "numbers": numbers, "rate": rate}


def cold_start(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    seconds, rate = draw.between(0.8, 3), draw.between(10, 30)
    if server in WITH_CODE:
        return ("cold_start",), {"code": {"kind": "compiles", "seconds": seconds}, "rate": rate, "warmup_s": 0.0}
    return ("cold_start",), {"faults": f"base=0.001 cold={seconds}", "rate": rate, "warmup_s": 0.0}


def connections(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    kind, seconds = draw.of("handshake", "few", "eight"), draw.between(0.02, 0.08)
    right = ("connections", "network_latency") if kind == "handshake" else ("connections",)
    given = {"rate": draw.between(8, 20), "around": proxied(kind, seconds)}
    return right, {**works(server, draw.between(0.5, 3)), **given}


def other_traffic(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    ms = draw.between(8, 16)
    # One at a time: theirs keep it busy for 60 %, ours for 15.
    given = {"rate": float(f"{150 / ms:.3g}"), "other_rate": float(f"{600 / ms:.3g}")}
    if server == FLASK:
        return ("other_traffic",), {"code": {"kind": "slots", "slots": 1, "seconds": ms / 1e3}, **given}
    fault = "sleep" if server == LITSERVE else "lock"
    return ("other_traffic",), {"faults": f"base=0 {fault}={ms / 1e3:.4f}", **given, "serve": MANY}


def generator(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    how = draw.of("crowded", "quota", "connection")
    if how == "crowded":
        given = {"client": STARVED, "around": crowded_client(draw.whole(3, 5)), "rate": draw.between(40, 150)}
        return ("generator",), {**works(server, 0.3), **given}
    if how == "quota":
        given = {"client": IN_GROUP, "around": client_quota(draw.between(0.1, 0.2)), "rate": draw.between(150, 300)}
        return ("generator",), {**works(server, 0.3), **given}
    ms, busy = draw.between(20, 50), draw.between(0.65, 0.8)
    given = {"rate": float(f"{busy * 1e3 / (ms + OVERHEAD_MS[server]):.3g}"), "options": ("--connections", "1")}
    if server in WITH_CODE:
        return ("generator",), {"code": {"kind": "slots", "slots": 8, "seconds": ms / 1e3}, **given, "serve": MANY}
    return ("generator",), {"faults": f"base=0 sleep={ms / 1e3:.4f}", **given, "workers": 4}


def harmless(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    """Something is there, and takes less than a tenth of the latency around p99."""
    ms = draw.between(12, 40)
    given = {**works(server, ms), "rate": rate_of(server, ms, 0.08)}
    extra = draw.of(
        {"around": quota(draw.between(1.4, 1.9))},  # a period allows 140 ms, and needs 8
        {"around": stopping(draw.between(0.3, 1), ms / 1e4)},
        {"around": proxied("delay", ms / 1e5)},
        {"around": proxied("kept", draw.between(0.02, 0.06)), "warmup_s": 3.0},
        {"other_rate": draw.between(0.3, 0.6)},
        {"link": "tbf rate 200mbit burst 64kb latency 500ms"},
    )
    return ITS_OWN, {**given, **extra}


def two(draw: Draw, server: str) -> tuple[tuple[str, ...], Given]:
    """A fault inside and one outside."""
    inside = draw.of(serial, batch_timer, codec, input_size, hardware)
    outside = draw.of(stall, network_latency, connections, neighbour)
    names, given = inside(draw, server)
    more, around = outside(draw, server)
    if "around" not in around:  # a stall of the model itself
        return names, given
    return (*names, *more), {**given, "around": around["around"]}


KINDS: dict[Callable[[Draw, str], tuple[tuple[str, ...], Given]], tuple[str, ...]] = {
    own: ALL,
    capacity: (SLIPWAY, FASTAPI, FLASK, LITSERVE),
    serial: ALL,
    batch_timer: ALL,
    codec: ALL,
    bandwidth: ALL,
    network_latency: ALL,
    model_size: (SLIPWAY, FASTAPI, FLASK, MLSERVER),
    hardware: ALL,
    cpu_quota: ALL,
    neighbour: ALL,
    stall: ALL,
    threads: ALL,
    padding: (SLIPWAY,),
    input_size: ALL,
    cold_start: ALL,
    connections: ALL,
    other_traffic: ALL,
    generator: WITH_CODE,
    harmless: ALL,
    two: ALL,
}
"""Each kind of fault, with the servers that can have it."""


def plants(seed: int, count: int) -> tuple[Plant, ...]:
    """So many plants: each kind in turn, every second one on Slipway."""
    return tuple(plant(seed, number) for number in range(count))


def plant(seed: int, number: int) -> Plant:
    """One plant; the same seed and number give the same one."""
    draw, kind = Draw(seed, number), list(KINDS)[number % len(KINDS)]
    others = [server for server in KINDS[kind] if server != SLIPWAY]
    slipways = not others or sum(divmod(number, len(KINDS))) % 2 == 0
    server = SLIPWAY if slipways else draw.of(*others)
    right, given = kind(draw, server)
    return Plant(server, f"drawn {seed}.{number} {kind.__name__}", right, **given)


def find(title: str) -> Plant:
    """The plant with this title. Raises KeyError."""
    found = _TITLE.search(title)
    if found is None:
        raise KeyError(title)
    return plant(int(found[1]), int(found[2]))
