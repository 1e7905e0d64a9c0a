"""The tuned plants on other servers."""

from __future__ import annotations

from . import models
from .around import burners, proxied, quota, stopping
from .models import DETECTOR, OBJECTS
from .plant import FASTAPI, FLASK, ITS_OWN, Plant
from .programs import HOG

SLOW_LINK = "tbf rate 8mbit burst 8kb latency 800ms"
SHORT_STOPS = stopping(0.4, 0.06)

ON_FASTAPI = (
    Plant(FASTAPI, "nothing", ("none",)),
    Plant(FASTAPI, "lock around a sleep", ("serial",), "lock=0.02", rate=35),
    Plant(FASTAPI, "one worker blocks", ("serial",), "block=0.02", rate=35),
    Plant(FASTAPI, "batch timer", ("batch_timer",), "timer=0.03", rate=20),
    Plant(FASTAPI, "long sleep in parallel", ("none",), "sleep=0.05", rate=20),
    Plant(FASTAPI, "large JSON reply", ("codec",), "reply=60000", rate=8),
    Plant(FASTAPI, "connections closed", ("connections",), "close"),
    Plant(FASTAPI, "pauses of the event loop", ("stall",), "pauses=2"),
    Plant(FASTAPI, "far away", ("network_latency",), rate=20, around=proxied("delay", 0.02)),
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
ON_OTHERS = (*ON_FASTAPI, *ON_FLASK)
