"""The tuned plants on other servers."""

from __future__ import annotations

from . import models
from .around import HOG, burners, proxied, quota, stopping
from .models import DETECTOR, OBJECTS
from .plant import FASTAPI, FLASK, ITS_OWN, LITSERVE, MLSERVER, Plant

SLOW_LINK = "tbf rate 8mbit burst 8kb latency 800ms"
SHORT_STOPS = stopping(0.4, 0.06)

ON_FASTAPI = (
    Plant(FASTAPI, "nothing", ("none",)),
    Plant(FASTAPI, "overload", ("capacity",), "spin=0.02", rate=80),
    Plant(FASTAPI, "lock around a sleep", ("serial",), "lock=0.02", rate=35),
    Plant(FASTAPI, "one worker blocks", ("serial",), "block=0.02", rate=35),
    Plant(FASTAPI, "lock, saturated", ("serial",), "lock=0.02", rate=70),
    Plant(FASTAPI, "batch timer", ("batch_timer",), "timer=0.03", rate=20),
    Plant(FASTAPI, "long sleep in parallel", ("none",), "sleep=0.05", rate=20),
    Plant(FASTAPI, "spin", ("hardware",), "spin=0.03", rate=8),
    Plant(FASTAPI, "large JSON body", ("codec",), numbers=(60_000,), rate=8),
    Plant(FASTAPI, "large JSON reply", ("codec",), "reply=60000", rate=8),
    Plant(FASTAPI, "weights", ("model_size",), "base=0 weights=400000000", rate=5),
    Plant(FASTAPI, "long inputs", ("input_size",), "length=0.000004", numbers=(*[64] * 7, 20_000), rate=15),
    Plant(FASTAPI, "threads", ("threads",), "base=0 threads=12", rate=4),
    Plant(FASTAPI, "cold start", ("cold_start",), "cold=1.5", warmup_s=0.0),
    Plant(FASTAPI, "connections closed", ("connections",), "close"),
    Plant(FASTAPI, "pauses of the event loop", ("stall",), "pauses=2"),
    Plant(FASTAPI, "SIGSTOP", ("stall",), around=stopping(2.0, 0.3)),
    Plant(FASTAPI, "CPU quota", ("cpu_quota",), "spin=0.01", rate=20, around=quota(0.25)),
    Plant(FASTAPI, "neighbours", ("neighbour",), around=burners(4)),
    Plant(FASTAPI, "slow link", ("bandwidth",), numbers=(4_000,), rate=10, around=proxied("rate", 1e6)),
    Plant(FASTAPI, "far away", ("network_latency",), rate=20, around=proxied("delay", 0.02)),
    Plant(FASTAPI, "another client", ("other_traffic",), "lock=0.01", rate=15, other_rate=55.0),
    Plant(FASTAPI, "nothing, closed loop", ("none",), "base=0.004", users=1),
    Plant(FASTAPI, "lock, closed loop", ("serial",), "base=0.001 lock=0.03", users=6),
    Plant(FASTAPI, "sort of 60 ms", ("hardware",), "base=0 sort=0.06", rate=5),
    Plant(FASTAPI, "garbage collection", ("stall",), "garbage=4000000", rate=60),
    Plant(FASTAPI, "link of 8 Mbit per s", ("bandwidth",), numbers=(6_000,), rate=5, link=SLOW_LINK),
    Plant(
        FASTAPI, "lock, far away", ("serial", "network_latency"), "lock=0.03", rate=24, around=proxied("delay", 0.02)
    ),
    Plant(FASTAPI, "spin and closed connections", ("hardware", "connections"), "spin=0.03 close", rate=8),
    Plant(FASTAPI, "neighbours and a timer", ("neighbour", "batch_timer"), "timer=0.03", rate=20, around=burners(4)),
    Plant(
        FASTAPI, "cold start and a body of 300 kB", ("cold_start", "codec"), "base=0.001 cold=3", numbers=(33_000,),
        rate=10, warmup_s=0.0,
    ),
    Plant(
        FASTAPI, "a sum, 50/s", ("none",), code={"kind": "light"}, rate=50,
        why="A millisecond of FastAPI itself; nobody would call it slow.",
    ),
    Plant(
        FASTAPI, "database transaction", ("serial",), code={"kind": "database", "seconds": 0.02}, rate=32,
        why="Many threads, one writer.",
    ),
    Plant(
        FASTAPI, "semaphore of one", ("serial",), code={"kind": "light", "how": "one", "wait_s": 0.035}, rate=18,
        why="A semaphore lets one request wait for the service at a time: 63 % busy.",
    ),
    Plant(
        FASTAPI, "answers every 60 ms", ("batch_timer",), code={"kind": "light", "how": "tick", "every_s": 0.06},
        rate=15, why="Requests wait for the next tick, for 30 ms on average, and no longer under load.",
    ),
    Plant(
        FASTAPI, "60,000 numbers, each checked", ("codec",), code={"kind": "light", "how": "validated"},
        numbers=(60_000,), rate=6, why="Parsing and checking half a megabyte of JSON is all that happens.",
    ),
    Plant(
        FASTAPI, "collects garbage itself", ("stall",),
        code={"kind": "collects", "every": 40, "objects": 2_500_000}, rate=40, why="As on Slipway.",
    ),
    Plant(
        FASTAPI, "one text in ten is long", ("input_size",), code={"kind": "distance"}, rate=12,
        bodies=models.json_texts(*[10] * 9, 180), why="As on Slipway.",
    ),
    Plant(
        FASTAPI, "second client with long texts", ("other_traffic",), code={"kind": "distance"}, rate=10,
        bodies=models.json_texts(12), other_body=models.json_texts(120), other_rate=6.0,
        why="Its texts keep the interpreter busy, and ours wait for it.",
    ),
    Plant(
        FASTAPI, "file of 20 MB from the disk", ("hardware", "none"), code={"kind": "disk", "megabytes": 20}, rate=6,
        why="Each request reads the file in some 40 ms, a quarter of what the disk can: the model's own time.",
    ),
)  # fmt: skip
ON_FLASK = (
    Plant(
        FLASK, "random forest, 8/s", ITS_OWN, code={"kind": "forest", "trees": 100}, rate=8,
        why="As on Slipway: the forest's own 5 ms.",
    ),
    Plant(
        FLASK, "one thread calls a service", ("serial",), rate=25,
        code={"kind": "downstream", "seconds": 0.025, "threaded": False, "keep": False},
        why="Flask without threads waits 25 ms for a service: 62 % busy while all cores idle.",
    ),
    Plant(
        FLASK, "answers 50,000 numbers", ("codec",), code={"kind": "floats", "count": 50_000}, rate=6,
        why="The app computes nothing; the json module writes a megabyte.",
    ),
    Plant(
        FLASK, "stops of 60 ms", ("stall",), code={"kind": "light"}, rate=50, around=SHORT_STOPS,
        why="As on Slipway.",
    ),
    Plant(
        FLASK, "quota of a fifth", ("cpu_quota",), code={"kind": "forest", "trees": 200}, rate=8,
        around=quota(0.2), why="20 ms a period, for requests of 10 ms and the server around them.",
    ),
    Plant(
        FLASK, "programs that copy memory", ("neighbour",), code={"kind": "forest", "trees": 200}, rate=8,
        around=burners(4, HOG), why="As on Slipway.",
    ),
    Plant(
        FLASK, "400 MB of weights", ("model_size", "hardware"), code={"kind": "weights", "megabytes": 400}, rate=6,
        why="As the script on Slipway.",
    ),
    Plant(
        FLASK, "detector of objects", ("hardware", "model_size"),
        code={"kind": "session", "model": OBJECTS, "side": 320}, rate=6, why="As on Slipway.",
    ),
    Plant(
        FLASK, "session with 16 threads", ("threads",),
        code={"kind": "session", "model": DETECTOR, "side": 192, "threads": 16}, rate=2.5, why="As on Slipway.",
    ),
    Plant(
        FLASK, "trains at its first request", ("cold_start",), code={"kind": "forest", "trees": 400, "lazy": True},
        rate=12, warmup_s=0.0, why="As on Slipway.",
    ),
    Plant(
        FLASK, "20 ms at 70/s", ("capacity", "serial"), code={"kind": "computes", "seconds": 0.02}, rate=70,
        why="One interpreter serves 50/s: too many requests, or one process too few.",
    ),
    Plant(
        FLASK, "jitter of up to 50 ms each way", ("network_latency",), code={"kind": "light"}, rate=15,
        around=proxied("jitter", 0.05), why="As on Slipway.",
    ),
    Plant(
        FLASK, "no kept connections, handshake of 25 ms", ("connections", "network_latency"),
        code={"kind": "light", "keep": False}, rate=15, around=proxied("handshake", 0.025),
        why="Flask's own server closes each connection, and a new one takes 25 ms.",
    ),
    Plant(
        FLASK, "burners, and an answer of 200 kB", ("neighbour",), code={"kind": "floats", "count": 10_000}, rate=10,
        around=burners(4),
        why="Four burners on two cores cost more than 10 ms of JSON.",
    ),
)  # fmt: skip
ON_LITSERVE = (
    Plant(LITSERVE, "nothing", ("none",), rate=30),
    Plant(LITSERVE, "overload", ("capacity",), "sort=0.02", workers=2, rate=150),
    Plant(LITSERVE, "one worker sleeps", ("serial",), "base=0 sleep=0.02", rate=35),
    Plant(LITSERVE, "batch timer", ("batch_timer",), "timer=0.05", rate=15),
    Plant(LITSERVE, "spin", ("hardware",), "spin=0.04", rate=6),
    Plant(LITSERVE, "large JSON body", ("codec",), numbers=(60_000,), rate=5),
    Plant(LITSERVE, "long inputs", ("input_size",), "length=0.000004", numbers=(*[64] * 7, 20_000), rate=12),
    Plant(LITSERVE, "threads", ("threads",), "base=0 threads=12", rate=3),
    Plant(LITSERVE, "cold start", ("cold_start",), "cold=1.5", warmup_s=0.0),
    Plant(LITSERVE, "connections closed", ("connections",), "close", rate=30),
    Plant(LITSERVE, "SIGSTOP", ("stall",), rate=30, around=stopping(2.0, 0.3)),
    Plant(LITSERVE, "CPU quota", ("cpu_quota",), "spin=0.01", rate=15, around=quota(0.4)),
    Plant(LITSERVE, "neighbours", ("neighbour",), rate=30, around=burners(4)),
    Plant(LITSERVE, "far away", ("network_latency",), rate=15, around=proxied("delay", 0.03)),
    Plant(LITSERVE, "another client", ("other_traffic",), "sleep=0.01", rate=12, other_rate=45.0),
    Plant(LITSERVE, "one worker and SIGSTOP", ("serial", "stall"), "base=0.001 sleep=0.03", rate=22,
          around=stopping(1.5, 0.25)),
)  # fmt: skip
ON_MLSERVER = (
    Plant(MLSERVER, "nothing", ("none",), rate=25),
    Plant(MLSERVER, "overload", ("capacity",), "spin=0.02", rate=80),
    Plant(MLSERVER, "lock around a sleep", ("serial",), "base=0 lock=0.02", rate=30),
    Plant(MLSERVER, "batch timer", ("batch_timer",), "timer=0.05", rate=15),
    Plant(MLSERVER, "long sleep in parallel", ("none",), "base=0 sleep=0.05", rate=15),
    Plant(MLSERVER, "spin", ("hardware",), "spin=0.04", rate=6),
    Plant(MLSERVER, "large JSON body", ("codec",), numbers=(60_000,), rate=3),
    Plant(MLSERVER, "weights", ("model_size",), "base=0 weights=400000000", rate=5),
    Plant(MLSERVER, "long inputs", ("input_size",), "length=0.000004", numbers=(*[64] * 7, 10_000), rate=8),
    Plant(MLSERVER, "threads", ("threads",), "base=0 threads=12", rate=3),
    Plant(MLSERVER, "SIGSTOP", ("stall",), rate=20, around=stopping(2.0, 0.3)),
    Plant(MLSERVER, "CPU quota", ("cpu_quota",), "spin=0.01", rate=15, around=quota(0.3)),
    Plant(MLSERVER, "neighbours", ("neighbour",), rate=20, around=burners(4)),
    Plant(MLSERVER, "slow link", ("bandwidth",), numbers=(4_000,), rate=5, around=proxied("rate", 1e6)),
    Plant(MLSERVER, "another client", ("other_traffic",), "base=0 lock=0.01", rate=12, other_rate=50.0),
    Plant(MLSERVER, "reply of 500 kB", ("codec",), "base=0.001 reply=30000", rate=4),
    Plant(MLSERVER, "cold start of 4 s", ("cold_start",), "cold=4", rate=15, warmup_s=0.0),
    Plant(MLSERVER, "link of 8 Mbit per s", ("bandwidth",), numbers=(5_000,), rate=4, link=SLOW_LINK),
    Plant(
        MLSERVER, "large body, slow link", ("codec", "bandwidth"), numbers=(20_000,), rate=3,
        around=proxied("rate", 3e6),
    ),
)  # fmt: skip
ON_OTHERS = (*ON_FASTAPI, *ON_FLASK, *ON_LITSERVE, *ON_MLSERVER)
