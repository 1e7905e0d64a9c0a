"""The held-out plants on other servers."""

from __future__ import annotations

from . import models
from .around import IN_GROUP, client_quota, later, proxied, quota, stopping_at_random
from .models import OBJECTS
from .plant import FASTAPI, FLASK, ITS_OWN, LITSERVE, MLSERVER, Plant

REPORTS = {"kind": "reports", "seconds": 0.004, "report_s": 0.15}

ON_FASTAPI = (
    Plant(
        FASTAPI, "file of 20 MB from the disk", ("hardware", "none"), code={"kind": "disk", "megabytes": 20}, rate=6,
        why="Each request reads the file in some 40 ms, a quarter of what the disk can: the model's own time.",
    ),
    Plant(
        FASTAPI, "log that nobody reads fast", ("serial",), code={"kind": "logs", "seconds": 0.025}, rate=30,
        why="The pipe takes one line in 25 ms: 75 % busy while all cores idle.",
    ),
    Plant(
        FASTAPI, "window of 70 ms", ("batch_timer",), code={"kind": "window", "for_s": 0.07, "size": 4}, rate=12,
        why="Nothing is computed; up to 70 ms pass until four have come, which is rare at 12/s.",
    ),
    Plant(
        FASTAPI, "table read by pandas", ("codec",), code={"kind": "table"}, bodies=models.json_csv(60, 1_000), rate=6,
        why="Reading 1.2 MB of JSON and CSV is all that happens; the sum of it takes nothing.",
    ),
    Plant(
        FASTAPI, "slow upload", ("bandwidth",), code={"kind": "light"}, numbers=(10_000,), rate=7,
        around=proxied("uploads", 1e6),
        why="95 kB take 95 ms of the way up, which is busy for two thirds of the time; reading them takes five.",
    ),
    Plant(
        FASTAPI, "quota in long periods", ("cpu_quota",), code={"kind": "hashes", "rounds": 30}, rate=12,
        around=quota(0.3, 400_000),
        why="12/s of 20 ms use 80 % of the quota: many periods end with a stop of up to 280 ms.",
    ),
    Plant(
        FASTAPI, "neighbours at the end", ("neighbour",), code={"kind": "hashes", "rounds": 30}, rate=15,
        around=later(11.0, 5), why="For a third of all requests five burners and the server want two cores.",
    ),
    Plant(
        FASTAPI, "heap that grows", ("stall",), rate=30,
        code={"kind": "leaks", "objects": 4_000, "every": 25, "already": 1_500_000},
        why="A collection of 0.1 s and growing stops every thread each 0.8 s, an eighth of the time.",
    ),
    Plant(
        FASTAPI, "400 MB of weights in torch", ("model_size", "hardware"), rate=5, warmup_s=8.0,
        code={"kind": "torch", "side": 10_000, "rows": 1, "threads": 2},
        why="One row reads 400 MB for two operations each: the memory decides. The warm-up takes the import.",
    ),
    Plant(
        FASTAPI, "three answers a connection", ("connections",), code={"kind": "light"}, rate=15,
        around=proxied("few", 0.035),
        why="Every third request needs a new connection and waits 35 ms for it; on a kept one a request takes two.",
    ),
    Plant(
        FASTAPI, "client with reports", ("other_traffic",), code=REPORTS, rate=14,
        other_body=models.json_fields(report=1), other_rate=2.5,
        why="The reports hold the lock for 38 % of the time, 150 ms each; without them requests take 5 ms.",
    ),
    Plant(
        FASTAPI, "client with a quota", ("generator",), code={"kind": "light"}, rate=150, client=IN_GROUP,
        around=client_quota(0.1),
        why="The client gets 10 ms of each 100, and is silent for most of the time; the server is free.",
    ),
)  # fmt: skip
ON_FLASK = (
    Plant(
        FLASK, "picture in base64", ("codec", "hardware"), code={"kind": "picture"}, bodies=models.json_image(600),
        rate=6,
        why="JSON, base64 and PNG of a megabyte are all the work. From outside it could as well be a model's.",
    ),
    Plant(
        FLASK, "sorts with the interpreter's lock", ("serial", "capacity"), code={"kind": "sorts", "thousands": 100},
        rate=30, why="As many threads as requests, but the lock lets one sort at a time: 65 to 75 % busy.",
    ),
    Plant(
        FLASK, "pool of one process", ("serial",), code={"kind": "pool", "rounds": 40}, rate=30,
        why="One process computes 22 ms for each: 66 % busy, and the other core idles.",
    ),
    Plant(
        FLASK, "proxy that flushes every 50 ms", ("network_latency",), code={"kind": "light"}, rate=15,
        around=proxied("flush", 0.05), why="Each way waits for the next flush, 50 ms together on average.",
    ),
    Plant(
        FLASK, "stops at irregular times", ("stall",), code={"kind": "light"}, rate=40,
        around=stopping_at_random(0.9, 0.05, 0.4), why="0.2 s of each 1.1 s nothing runs.",
    ),
    Plant(
        FLASK, "loads four parts", ("cold_start",), code={"kind": "parts", "parts": 4, "seconds": 0.5}, rate=15,
        bodies=models.json_values(4, 5, 6, 7), warmup_s=0.0,
        why="The first requests of four parts wait 0.5 s each, and 30 others behind them, of 180.",
    ),
    Plant(
        FLASK, "program for each request, too many", ("capacity",), code={"kind": "child", "seconds": 0.03}, rate=70,
        why="70/s of 40 ms need 2.8 cores, and there are two.",
    ),
    Plant(
        FLASK, "session of 10 threads", ("threads",), rate=5,
        code={"kind": "session", "model": OBJECTS, "side": 320, "threads": 10},
        why="Ten threads that spin take turns on two cores; two threads take 20 ms.",
    ),
)  # fmt: skip
ON_PEERS = (
    Plant(
        LITSERVE, "two workers at a tenth", ITS_OWN, "base=0.02", workers=2, rate=8,
        why="20 ms of the model itself, at a twelfth of what two workers do.",
    ),
    Plant(
        LITSERVE, "clustered arrivals", ("capacity",), "base=0.022", workers=2, rate=50,
        options=("--arrivals", "gamma:4"),
        why="50/s of 22 ms are more than half of two cores, in clusters of a dozen: those wait for 100 ms and more.",
    ),
    Plant(
        LITSERVE, "one worker, four callers", ("serial",), "base=0.001 sleep=0.03", users=4,
        why="Three callers wait while the one worker waits for a service.",
    ),
    Plant(
        LITSERVE, "stops at irregular times", ("stall",), "base=0.002", rate=25,
        around=stopping_at_random(0.9, 0.05, 0.4), why="0.2 s of each 1.1 s nothing runs.",
    ),
    Plant(
        MLSERVER, "18 ms on the event loop at 35/s", ("serial", "capacity"), "base=0.018", rate=35,
        why="One event loop computes for 63 % of the time and more, and the other core idles.",
    ),
    Plant(
        MLSERVER, "proxy that flushes every 60 ms", ("network_latency",), "base=0.001", rate=12,
        around=proxied("flush", 0.06), why="Each way waits for the next flush, 60 ms together on average.",
    ),
    Plant(
        MLSERVER, "loads for 2.5 s, and a reply of 60 kB", ("cold_start",), "base=0.001 cold=2.5 reply=4000", rate=15,
        warmup_s=0.0, why="38 of 180 requests wait up to 2.5 s for the first; the reply takes some milliseconds.",
    ),
)  # fmt: skip
ON_OTHERS = (*ON_FASTAPI, *ON_FLASK, *ON_PEERS)
