"""The tuned plants: those that the rules of the verdict were made with, or mended for after a first measurement.

Of these sets one plant of each mechanism is kept that no kind of ``drawn`` has, beside those of the short form.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from . import models, slipway
from .around import burners, coming_and_going, frozen, later, one_core, outranked, proxied, quota, stopping
from .models import ANGLE, DETECTOR, FILE_TYPE, OBJECTS
from .plant import FASTAPI, FLASK, ITS_OWN, SLIPWAY, Plant
from .programs import HICCUPS, IDLE

TINY, SMALL, LEAST, HEAVY, LONG = (32, 32, 1), (64, 64, 2), (48, 16, 1), (256, 2_000, 4), (12_000, 8, 1)
"""Dense networks: inputs, hidden size, layers."""
LINE, HEAD, HEADS = models.npy((1, 3, 48, 192)), *(models.npy((rows, 2_048), dtype="int32") for rows in (1, 16))
HASH_10, HASH_20 = ({"kind": "hashes", "rounds": rounds} for rounds in (20, 40))
ONE, TWO, MANY = ("--instances", "1", "--threads", "1"), ("--instances", "2"), ("--instances", "12")

ON_SLIPWAY = (
    Plant(SLIPWAY, "batch timer", ("batch_timer",), network=SMALL, serve=("--max-queue-delay-us", "30000"), rate=20),
    Plant(SLIPWAY, "SIGSTOP", ("stall",), network=SMALL, around=stopping(2.0, 0.3)),
    Plant(SLIPWAY, "long inputs", ("input_size",), "length=0.000004", numbers=(*[64] * 7, 20_000), rate=15),
    Plant(SLIPWAY, "cold start", ("cold_start",), "cold=1.5", warmup_s=0.0),
    Plant(SLIPWAY, "a cache", ("hardware", "none"), network=HEAVY, numbers=tuple(range(64, 104)),
          serve=("--cache-mb", "64")),
    Plant(
        SLIPWAY, "padding, eight callers", ("padding", "serial", "capacity"), users=8,
        model=partial(slipway.padded, hidden=128, longest=1_024), bodies=partial(slipway.rows_of, (16, 16, 16, 1_024)),
    ),
    Plant(
        SLIPWAY, "angle of a line in gentle bursts", ITS_OWN, model=models.public(ANGLE), bodies=LINE, rate=40,
        options=("--arrivals", "mmpp:4x1"),
        why="Bursts that stay below a tenth of the capacity make no queue.",
    ),
    Plant(
        SLIPWAY, "tiny network, one caller", ("none",), network=TINY, users=1,
        why="One caller who waits for each answer cannot make a queue.",
    ),
    Plant(
        SLIPWAY, "bursts above the capacity", ("capacity",), code={"kind": "computes", "seconds": 0.015},
        serve=("--script-workers", "2"), rate=85, options=("--arrivals", "mmpp:8x1"),
        why="For seconds at a time 150/s come to processes that serve 120/s: the queue of those is the tail.",
    ),
    Plant(
        SLIPWAY, "database transaction", ("serial",), code={"kind": "database", "seconds": 0.02},
        serve=("--script-workers", "3"), rate=35,
        why="Three processes wait for the one writer that SQLite allows: 70 % busy while all cores idle.",
    ),
    Plant(
        SLIPWAY, "slow way back", ("bandwidth",), model=models.public(DETECTOR), bodies=models.npy((1, 3, 192, 192)),
        rate=2, around=proxied("answers", 2e6),
        why="Only the answer, half a megabyte of JSON, meets a link of 2 MB/s: a quarter of a second.",
    ),
    Plant(
        SLIPWAY, "pinned to one core", ("hardware", "cpu_quota", "threads"), model=models.public(OBJECTS),
        bodies=models.npy((1, 3, 320, 320)), rate=8, around=one_core(1),
        why="The detector's threads share the one core that taskset leaves: too little hardware, a limit, or threads.",
    ),
    Plant(
        SLIPWAY, "burner on the server's core", ("neighbour",), code={"kind": "computes", "seconds": 0.008}, rate=25,
        around=burners(1, core=1),
        why="The other core idles, but server and neighbour are pinned to one.",
    ),
    Plant(
        SLIPWAY, "job of a second, now and then", ("neighbour",), model=models.public(FILE_TYPE), bodies=HEAD, rate=25,
        around=coming_and_going(4, 1.5, 1.0),
        why="Four burners run for a second and rest for one and a half: the slow requests are those of that second.",
    ),
    Plant(
        SLIPWAY, "thread that polls", ("threads", "serial"), code={"kind": "spinner", "seconds": 0.004}, rate=30,
        why="A second thread takes the interpreter at every chance: too many threads, or one lock.",
    ),
    Plant(
        SLIPWAY, "one sentence in eight is a page", ("input_size", "padding"), model=models.minilm, rate=12,
        bodies=models.texts(*[5] * 7, 200),
        why="The encoder's time grows with the tokens; short texts that share a batch are padded.",
    ),
    Plant(
        SLIPWAY, "second client with 16 rows", ("other_traffic",), model=models.public(FILE_TYPE), bodies=HEAD, rate=8,
        other_body=HEADS, other_rate=6.0, serve=ONE,
        why="Its batches of 16 rows take the one instance for most of the time; ours would be alone at 8/s.",
    ),
    Plant(
        SLIPWAY, "locust at 5,500/s", ("generator",), network=TINY, rate=5_500, options=("--engine", "locust"),
        why="One process of locust sends 4,000/s at most, and the server takes twice as many.",
    ),
    Plant(
        SLIPWAY, "program for each request, too many", ("capacity",), code={"kind": "child", "seconds": 0.03}, rate=75,
        serve=("--instances", "8"), why="75/s of 40 ms need three cores, and there are two.",
    ),
    Plant(
        SLIPWAY, "log that nobody reads fast", ("serial",), code={"kind": "logs", "seconds": 0.03}, rate=24,
        serve=("--instances", "8"),
        why="The pipe takes one line in 30 ms: 72 % busy while all cores idle; p99 waits for five lines.",
    ),
    Plant(
        SLIPWAY, "pool of one process", ("serial",), code={"kind": "pool", "rounds": 40}, rate=32,
        serve=("--instances", "6"),
        why="One process computes 22 ms for each: 70 % busy, and the other core idles.",
    ),
    Plant(
        SLIPWAY, "sorts with the interpreter's lock", ("serial", "capacity"), code={"kind": "sorts", "thousands": 100},
        rate=34, serve=("--instances", "4"),
        why="Four threads, but the lock lets one sort at a time: 70 % busy. It is also all that one process can do.",
    ),
    Plant(
        SLIPWAY, "compressed JSON", ("codec",), network=LONG, bodies=models.gzipped(models.nested(6, 12_000)), rate=6,
        options=("--header", "Content-Encoding: gzip"),
        why="72,000 numbers are expanded and read, for a product of a fraction of a millisecond.",
    ),
    Plant(
        SLIPWAY, "recurrent layer", ("model_size", "hardware"), rate=5, bodies=models.npy((1, 64)),
        model=partial(slipway.recurrent, hidden=2_000, steps=20),
        why="48 MB of weights are read 20 times, once for each step.",
    ),
    Plant(
        SLIPWAY, "quota in long periods", ("cpu_quota",), code=HASH_20, rate=10, around=quota(0.3, 500_000),
        why="10/s of 25 ms use 83 % of the quota: many periods end with a stop of up to 350 ms.",
    ),
    Plant(
        SLIPWAY, "neighbours at the end", ("neighbour",), code=HASH_20, rate=20, around=later(11.0, 5),
        why="For a third of all requests five burners and the server want two cores: a run gets a third of a core.",
    ),
    Plant(
        SLIPWAY, "nice to its neighbours", ("neighbour",), code=HASH_10, rate=12, around=outranked(2, 10),
        why="A burner on each core, and the server's weight is a tenth of theirs.",
    ),
    Plant(
        SLIPWAY, "quota with a sidecar in it", ("cpu_quota", "neighbour"), code=HASH_10, rate=12,
        around=quota(0.6, burns=1),
        why="The sidecar takes what the server leaves of 60 ms, and both are throttled for 40 of 100.",
    ),
    Plant(
        SLIPWAY, "programs at idle priority", ITS_OWN, code=HASH_20, rate=12, serve=TWO, around=burners(2, IDLE),
        why="The kernel gives them 3 shares of 1,027, and takes the core at once when the server wakes: 0.1 ms of 22.",
    ),
    Plant(
        SLIPWAY, "two replicas", ("none",), network=LEAST, rate=120, serve=("--processes", "2"),
        why="2 ms at 120/s over two processes: 0.12 in flight in each, and all is answered in two or three.",
    ),
    Plant(
        SLIPWAY, "hash on two threads at 85 %", ("capacity",), code={"kind": "halves", "rounds": 36}, rate=74,
        serve=MANY,
        why="Two halves of 10 ms, and 2 of server and client, at 74/s: 1.63 of two cores, which both work. M/D/1 of 11 "
        "ms at 0.81 waits 10 service times at p99: 110 of 120 ms.",
    ),
    Plant(
        SLIPWAY, "service with a rate limit", ("serial",), code={"kind": "spaced", "seconds": 0.035}, rate=21,
        serve=MANY,
        why="One call may begin in 35 ms: 74 % of that is used. M/D/1 waits 7 times that at p99, 240 ms, while the "
        "cores idle; a call that comes alone waits for nothing.",
    ),
    Plant(
        SLIPWAY, "answers when it has been quiet", ("batch_timer",), code={"kind": "debounced", "quiet_s": 0.045},
        rate=14, serve=MANY,
        why="Each waits until none has come for 45 ms: 45 at least, and 150 or more at p99, as 47 % of gaps are "
        "shorter. Nothing is computed, and 1 of twelve threads is taken.",
    ),
    Plant(
        SLIPWAY, "JSON in a string of JSON", ("codec",), code={"kind": "doubly"}, bodies=models.json_in_json(70_000),
        rate=8, serve=TWO,
        why="1.4 MB are read as one string in 1 to 2 ms, and then its 70,000 numbers in 15 to 20; their sum takes 0.3.",
    ),
    Plant(
        SLIPWAY, "network credit that is used up", ("bandwidth",), code={"kind": "light"}, numbers=(8_000,), rate=18,
        serve=TWO, link="tbf rate 9mbit burst 2mb latency 900ms",
        why="80 kB at 18/s are 11.8 Mbit/s for a link of 9: the credit of 16 Mbit lasts for 5 s, and then a queue "
        "grows by 0.3 s each second. Reading takes 2 ms.",
    ),
    Plant(
        SLIPWAY, "gateway that asks for permission", ("network_latency",), network=SMALL, rate=22,
        around=proxied("permit", 0.045),
        why="Each question is held for 45 ms on the way, beside the others; the server answers in 2.",
    ),
    Plant(
        SLIPWAY, "idle connections closed after 40 ms", ("connections",), network=LEAST, rate=7,
        around=proxied("idle", 0.05),
        why="A connection is idle for longer than 40 ms before 75 % of requests, and a new one takes 50; on a kept one "
        "a request takes 2.",
    ),
    Plant(
        SLIPWAY, "container paused by a backup", ("stall",), code=HASH_10, rate=18, serve=TWO, around=frozen(1.7, 0.3),
        why="15 % of requests come during a pause: 280 ms at p99 and the hashes that wait behind it; alone 20.",
    ),
    Plant(
        SLIPWAY, "four threads that prefetch", ("threads",), code={"kind": "prefetches", "threads": 4, "rounds": 40},
        rate=8, serve=TWO, around=burners(0),
        why="Five threads of the process want two cores: 13 ms become 33 or more, and the event loop waits for its "
        "turn. Requests alone are 0.12 of two cores.",
    ),
    Plant(
        SLIPWAY, "generator that is taken away", ("generator",), network=LEAST, rate=40, client=HICCUPS,
        why="For 0.2 s of each second the client does not run: 20 % of requests are sent or read late, 190 ms at p99. "
        "The server takes 2.",
    ),
)  # fmt: skip
ON_OTHERS = (
    Plant(FASTAPI, "lock around a sleep", ("serial",), "lock=0.02", rate=35),
    Plant(FASTAPI, "one worker blocks", ("serial",), "block=0.02", rate=35),
    Plant(FASTAPI, "batch timer", ("batch_timer",), "timer=0.03", rate=20),
    Plant(FASTAPI, "large JSON reply", ("codec",), "reply=60000", rate=8),
    Plant(FASTAPI, "connections closed", ("connections",), "close"),
    Plant(FASTAPI, "pauses of the event loop", ("stall",), "pauses=2"),
    Plant(FASTAPI, "far away", ("network_latency",), rate=20, around=proxied("delay", 0.02)),
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
        FASTAPI, "file of 20 MB from the disk", ("hardware", "none"), code={"kind": "disk", "megabytes": 20}, rate=6,
        why="Each request reads the file in some 40 ms, a quarter of what the disk can: the model's own time.",
    ),
    Plant(
        FLASK, "one thread calls a service", ("serial",), rate=25,
        code={"kind": "downstream", "seconds": 0.025, "threaded": False, "keep": False},
        why="Flask without threads waits 25 ms for a service: 62 % busy while all cores idle.",
    ),
)  # fmt: skip
TUNED = (*ON_SLIPWAY, *ON_OTHERS)
SHORT_TITLES = (
    *("FastAPI: lock around a sleep", "FastAPI: batch timer", "FastAPI: connections closed", "FastAPI: far away"),
    *("FastAPI: large JSON reply", "Slipway: batch timer", "Slipway: SIGSTOP", "Slipway: padding, eight callers"),
    *("Slipway: cold start", "Slipway: long inputs"),
)
"""The short form: each is far from the limits of the rules, and no other program of the machine can be its cause."""
SHORT = tuple(
    replace(one, right=one.right[:1], options=(*one.options, "--skip-calibration"))
    for one in TUNED
    if one.title in SHORT_TITLES
)
