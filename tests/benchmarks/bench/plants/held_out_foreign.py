"""The held-out plants on other servers, the fifth set.

``why`` counts as it does for Slipway; a request that computes nothing takes two milliseconds, on LitServe and MLServer
three or four.
"""

from __future__ import annotations

from . import models
from .around import burners, proxied, quota, stopping, stopping_workers
from .models import DETECTOR
from .plant import FASTAPI, FLASK, ITS_OWN, LITSERVE, MLSERVER, Plant
from .programs import CRON

HASH_10, HASH_13, HASH_27 = ({"kind": "hashes", "rounds": rounds} for rounds in (30, 40, 80))

ON_FASTAPI = (
    Plant(
        FASTAPI, "service with eight connections, one at work", ("none",), rate=16,
        code={"kind": "slots", "slots": 8, "seconds": 0.025},
        why="16/s of 25 ms are 0.4 of eight slots: nobody waits for one. A short wait is its own.",
    ),
    Plant(
        FASTAPI, "mean of random numbers", ITS_OWN, code={"kind": "draws", "thousands": 2_500}, rate=8,
        why="25 ms of native code at 8/s, 0.2 of two cores: 2 % of requests find both taken.",
    ),
    Plant(
        FASTAPI, "six calls on two threads", ("serial",), rate=18,
        code={"kind": "fans", "calls": 6, "slots": 2, "seconds": 0.014},
        why="84 ms of calls a request at 18/s: 1.5 of two threads. As M/D/1 of 42 ms at 0.76 it waits 8 times that at "
        "p99: 300 of 345 ms, while the cores idle.",
    ),
    Plant(
        FASTAPI, "table that a thread saves", ("stall",), code={"kind": "snapshots", "keys": 600_000, "pause_s": 1.5},
        rate=20,
        why="Saving keeps the interpreter's lock for 200 to 270 ms of each 1.7 s: 13 % of requests wait, 190 ms or "
        "more at p99, for an answer of 2.",
    ),
    Plant(
        FASTAPI, "answers 170,000 numbers", ("codec",), "base=0 reply=170000", rate=7,
        why="3 MB of JSON are written in 22 to 30 ms; the sum takes 0.1, and making the numbers a few.",
    ),
    Plant(
        FASTAPI, "handshake of 45 ms for each request", ("connections",), code={"kind": "light"}, rate=14,
        around=proxied("handshake", 0.045),
        why="No connection is kept, and a new one takes 45 ms; on a kept one a request takes 3.",
    ),
    Plant(
        FASTAPI, "client that sends 30 at once", ("other_traffic",), code=HASH_13, rate=12, other_rate=0.6,
        other_burst=30,
        why="Its 30 requests take 12 to 15 ms of a core each, 200 ms of each 1.7 s: 11 % of ours share them, and "
        "take 100 to 170 at p99; alone 18.",
    ),
    Plant(
        FASTAPI, "cache that is empty at first", ("cold_start",), code={"kind": "misses", "seconds": 0.25}, rate=16,
        warmup_s=0.0, bodies=models.json_values(*range(20, 60)),
        why="40 keys are asked for once, 0.25 s each, in the first seconds: 20 % of requests, so p99 is one of them; "
        "then an answer takes 3 ms. Four of 40 threads are taken.",
    ),
    Plant(
        FASTAPI, "timer of 45 ms, 20 ms away", ("batch_timer", "network_latency"), "timer=0.045", rate=18,
        around=proxied("delay", 0.02), why="The timer adds 45 ms and the way 40; the model takes 3.",
    ),
)  # fmt: skip
ON_FLASK = (
    Plant(
        FLASK, "small table that a thread saves", ("none",), rate=20,
        code={"kind": "snapshots", "keys": 2_000, "pause_s": 0.5},
        why="2,000 keys are saved in 1 ms: 0.2 % of the time, for requests of 2 ms.",
    ),
    Plant(
        FLASK, "twelve steps of a detector", ("hardware", "model_size"), rate=5,
        code={"kind": "steps", "model": DETECTOR, "side": 128, "steps": 12},
        why="Each step takes 4 to 8 ms on one thread, together 50 to 100; a smaller network is as fair an advice.",
    ),
    Plant(
        FLASK, "answers over 16 Mbit per s, and stops of 40 ms", ("bandwidth",), rate=4,
        code={"kind": "floats", "count": 15_000}, around=stopping(1.0, 0.04),
        link="tbf rate 16mbit burst 16kb latency 900ms",
        why="300 kB take 150 ms of the link, 60 % of the time: p99 waits for more than one other. A stop adds 40 at "
        "most, writing the numbers takes 8.",
    ),
    Plant(
        FLASK, "table of jobs", ("neighbour",), code=HASH_10, rate=15, around=burners(1, CRON),
        why="20 jobs of 0.14 s keep two cores busy for 1.4 of 3.6 s; a hash that shares one with ten takes 40 to 100 "
        "ms instead of 10.",
    ),
    Plant(
        FLASK, "weights that are expanded", ("model_size", "hardware"), code={"kind": "expands", "megabytes": 90},
        rate=5,
        why="90 MB are read and 360 written for each request: 60 ms or more. A slow machine is as fair a word.",
    ),
)  # fmt: skip
ON_LITSERVE = (
    Plant(
        LITSERVE, "hash on two workers", ITS_OWN, code=HASH_13, workers=2, rate=8,
        why="13 ms at 8/s on two workers: 0.5 % of requests find both taken. LitServe itself takes 4.",
    ),
    Plant(
        LITSERVE, "one worker calls a service", ("serial",), code={"kind": "downstream", "seconds": 0.045}, rate=15,
        why="45 ms at 15/s: 68 % of the one worker. M/D/1 waits 6 times that at p99: 270 of 320 ms, while the cores "
        "idle.",
    ),
    Plant(
        LITSERVE, "timer of 70 ms", ("batch_timer",), "timer=0.07", rate=12,
        why="The first waits 70 ms for seven others, who never come at 12/s; the model takes 3.",
    ),
    Plant(
        LITSERVE, "answers 35,000 numbers", ("codec",), "base=0 reply=35000", rate=5,
        why="700 kB are passed on by the worker and written as JSON: 20 to 40 ms; the sum takes 0.1.",
    ),
    Plant(
        LITSERVE, "workers that are stopped", ("stall",), code=HASH_10, workers=2, rate=20,
        around=stopping_workers(1.2, 0.25),
        why="17 % of requests come while no worker runs: 230 ms and the hashes before it at p99; alone 20.",
    ),
    Plant(
        LITSERVE, "16 callers of two workers", ("capacity",), code=HASH_27, workers=2, users=16,
        why="27 ms and 3 of LitServe on two cores: 16 callers share 63/s, so each waits 220 of 250 ms while both work.",
    ),
)  # fmt: skip
ON_MLSERVER = (
    Plant(
        MLSERVER, "hash at a tenth", ITS_OWN, code=HASH_13, rate=7,
        why="13 ms and 4 of MLServer at 7/s on one event loop: 0.12 busy, so p99 waits for most of one hash, which is "
        "the model's time too.",
    ),
    Plant(
        MLSERVER, "calls a service on the event loop", ("serial",), code={"kind": "downstream", "seconds": 0.03},
        rate=21,
        why="30 ms and 3 of MLServer at 21/s: 69 % of the loop, which waits. M/D/1 waits 6 times that at p99: 200 of "
        "230 ms, while the cores idle.",
    ),
    Plant(
        MLSERVER, "one decoder in ten takes 80 steps", ("input_size",), code={"kind": "generates", "rounds": 3}, rate=8,
        numbers=(*[3] * 9, 80),
        why="80 steps of 1 ms and three: 10 % of requests, so p99 is one of them; others wait for one at most.",
    ),
    Plant(
        MLSERVER, "quota of a third", ("cpu_quota",), code=HASH_13, rate=16, around=quota(0.33),
        why="16/s of 14 to 16 ms are 70 to 78 % of the quota: two in a period use its 33 ms up, and a third waits for "
        "the next. 60 to 200 ms at p99; without the quota 35.",
    ),
    Plant(
        MLSERVER, "45 ms away each way", ("network_latency",), "base=0.002", rate=12, around=proxied("delay", 0.045),
        why="90 ms on the way and 5 in the server.",
    ),
    Plant(
        MLSERVER, "lock, 8 ms away", ("serial",), "base=0 lock=0.03", rate=20, around=proxied("delay", 0.008),
        why="The lock is held for 30 ms at 20/s, with 3 of MLServer 66 %: M/D/1 waits 5 times that at p99, 160 of 200 "
        "ms. The way takes 16.",
    ),
)  # fmt: skip
ON_OTHERS = (*ON_FASTAPI, *ON_FLASK, *ON_LITSERVE, *ON_MLSERVER)
