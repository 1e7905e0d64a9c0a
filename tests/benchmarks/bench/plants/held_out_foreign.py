"""The held-out plants on other servers.

``why`` counts as it does for Slipway; a request that computes nothing takes two milliseconds.
"""

from __future__ import annotations

from . import models
from .around import BUILD, burners, proxied, quota
from .plant import FASTAPI, FLASK, ITS_OWN, Plant

HASH_10, HASH_13, HASH_20, HASH_33 = ({"kind": "hashes", "rounds": rounds} for rounds in (30, 40, 60, 100))

ON_FASTAPI = (
    Plant(
        FASTAPI, "spectrum of a million samples", ITS_OWN, code={"kind": "spectrum", "thousands": 1_000}, rate=8,
        why="20 ms of native code, 0.16 of two cores: 1.2 % of requests find both taken.",
    ),
    Plant(
        FASTAPI, "second client, once a second", ITS_OWN, code=HASH_10, rate=15, other_rate=1.0,
        why="Ours use 0.18 cores of two and its one request 0.01; p99 has less than 1 ms of it, of 13.",
    ),
    Plant(
        FASTAPI, "proxy half a millisecond away", ITS_OWN, code=HASH_33, rate=6, around=proxied("delay", 0.0005),
        why="2 ms on both ways with the proxy's own work, and 33 ms in the model, at a tenth of two cores: 7 %.",
    ),
    Plant(
        FASTAPI, "three connections to a service", ("serial",), code={"kind": "slots", "slots": 3, "seconds": 0.06},
        rate=37,
        why="37/s of 60 ms are 74 % of three slots: M/M/3 waits ln(55)/(13/s) at p99, 308 ms; of even service times "
        "half: 150 of 210, while the cores idle.",
    ),
    Plant(
        FASTAPI, "many rules, read again", ("stall", "threads"), rate=20,
        code={"kind": "rules", "rules": 200_000, "pause_s": 1.5},
        why="Reading keeps the interpreter's lock for 260 ms of each 1.8 s: 15 % of requests wait, 240 ms at p99.",
    ),
    Plant(
        FASTAPI, "one photograph in ten is large", ("input_size",), code={"kind": "photo"}, rate=15,
        bodies=models.json_photos(*[200] * 9, 2_400), why="58 ms for 2,400 pixels a side and 2 for 200: 10 %.",
    ),
    Plant(
        FASTAPI, "quota of half a core for texts", ("cpu_quota",), code={"kind": "tokens"}, rate=15,
        bodies=models.texts_in_json(10_000), around=quota(0.5),
        why="15/s of 24 ms are 72 % of the quota: three in a period, 19 %, use its 50 ms up and wait 50 to 150; "
        "without the quota p99 waits 15.",
    ),
    Plant(
        FASTAPI, "compiler that learns from 40 requests", ("cold_start",), rate=15, warmup_s=0.0,
        code={"kind": "warms", "seconds": 0.12, "requests": 40},
        why="40 first requests take 120 ms down to nothing, 2.4 s of 2.7: queues of 300 ms for 13 % of requests. Then "
        "an answer takes 2 ms.",
    ),
    Plant(
        FASTAPI, "queue that is looked at now and then", ("batch_timer",), rate=15,
        code={"kind": "polled", "pause_s": 0.1, "look_s": 0.03},
        why="Up to 100 ms until the model looks and up to 30 until the request does; nothing is computed.",
    ),
    Plant(
        FASTAPI, "eight answers a connection", ("connections",), code={"kind": "light"}, rate=16,
        around=proxied("eight", 0.08), why="Each eighth request waits 80 ms for a new connection; others take three.",
    ),
    Plant(
        FASTAPI, "link of 5 Mbit per s", ("bandwidth",), code={"kind": "light"}, numbers=(2_000,), rate=15,
        link="tbf rate 5mbit burst 8kb latency 900ms",
        why="20 kB take 32 ms of the link, half of the time: p99 waits two more for it; reading them takes 1.",
    ),
    Plant(
        FASTAPI, "hashes at nine tenths", ("capacity",), code=HASH_20, rate=78,
        why="20 ms and 2 of FastAPI at 78/s: 1.72 of two cores, which both work. M/M/2 at 0.86 waits 340 ms at "
        "p99; of even service times half.",
    ),
)  # fmt: skip
ON_FLASK = (
    Plant(
        FLASK, "query without an index", ITS_OWN, code={"kind": "scan", "thousands": 300}, rate=8,
        why="SQLite reads 300,000 rows in 15 ms, at 0.1 of two cores: the model's own time.",
    ),
    Plant(
        FLASK, "connections closed at no cost", ITS_OWN, code={**HASH_20, "keep": False}, rate=8,
        why="A new connection and its thread take 0.5 ms on this host, and the hash 20.",
    ),
    Plant(
        FLASK, "lock for each tenant, one is loud", ("serial",), code={"kind": "tenants", "seconds": 0.035}, rate=28,
        numbers=(5, 5, 5, 6),
        why="21 of 28/s want one lock for 35 ms: 74 % busy. M/D/1 waits 7 service times at p99, 250 of 290 ms.",
    ),
    Plant(
        FLASK, "table of named numbers", ("codec",), code={"kind": "records"}, bodies=models.json_records(3_000, 12),
        rate=8, why="900 kB of JSON become objects and then a table in 20 ms; its sum takes nothing.",
    ),
    Plant(
        FLASK, "nearest of 300,000 vectors", ("model_size", "hardware"), code={"kind": "nearest", "thousands": 300},
        rate=8, why="307 MB are read for two operations a number: 32 ms. A slow machine is as fair a word.",
    ),
    Plant(
        FLASK, "build with four jobs", ("neighbour",), code=HASH_13, rate=12, around=burners(4, BUILD),
        why="Five programs want two cores: 14 ms become 50 to 90.",
    ),
    Plant(
        FLASK, "losses on the way", ("network_latency",), code={"kind": "light"}, rate=20, around=proxied("loss", 0.04),
        why="Question and answer are each held back 200 ms with 4 %: 8 % of requests, so p99 is 200 of 203.",
    ),
    Plant(
        FLASK, "second client with blanks", ("other_traffic",), code={"kind": "blanks"}, rate=20,
        bodies=models.json_blanks(20), other_body=models.json_blanks(3_500), other_rate=4.0,
        why="Its texts keep the interpreter's lock for 60 ms, 24 % of the time: p99 of ours is 57 of 60; alone 3.",
    ),
)  # fmt: skip
ON_OTHERS = (*ON_FASTAPI, *ON_FLASK)
