"""The fifth set of plants, on Slipway.

``why`` counts in milliseconds of one core of a machine with two: a request that computes nothing takes one or two.
"""

from __future__ import annotations

from . import models
from .around import burners, crowded, frozen, on_core, proxied, quota, stopping
from .models import ANGLE, OBJECTS
from .plant import ITS_OWN, SLIPWAY, Plant
from .programs import CRON, HICCUPS, IDLE

TWELVE, TWO, ONE = (("--instances", count) for count in ("12", "2", "1"))
HASH_12, HASH_13, HASH_20, HASH_30 = ({"kind": "hashes", "rounds": rounds} for rounds in (36, 40, 60, 90))
SLIM, EDGE = (80, 200, 2), (36, 20, 1)
"""Dense networks: inputs, hidden size, layers."""
LINE, PICTURE = models.npy((1, 3, 48, 192)), models.npy((1, 3, 320, 320))

AT_EASE = (
    Plant(
        SLIPWAY, "programs at idle priority", ITS_OWN, code=HASH_20, rate=12, serve=TWO, around=burners(2, IDLE),
        why="The kernel gives them 3 shares of 1,027, and takes the core at once when the server wakes: 0.1 ms of 22.",
    ),
    Plant(
        SLIPWAY, "two replicas", ("none",), network=EDGE, rate=120, serve=("--processes", "2"),
        why="2 ms at 120/s over two processes: 0.12 in flight in each, and all is answered in two or three.",
    ),
    Plant(
        SLIPWAY, "detector with a timer of 1 ms", ITS_OWN, model=models.public(OBJECTS), bodies=PICTURE, rate=6,
        serve=("--max-queue-delay-us", "1000"),
        why="The timer adds 1 ms to 23 of the model. At 0.14 busy one in seven waits for a run before it, which is "
        "the model's time too.",
    ),
    Plant(
        SLIPWAY, "rate limit far above the load", ITS_OWN, rate=8, serve=("--instances", "4"),
        code={"kind": "limitedhashes", "seconds": 0.001, "rounds": 100},
        why="The limit is 0.8 % used, and delays 1 % of requests by less than 1 ms; the hash after it takes 33.",
    ),
    Plant(
        SLIPWAY, "cache that fills in the warm-up", ("none",), code={"kind": "misses", "seconds": 0.15}, rate=25,
        serve=TWELVE, warmup_s=5.0, bodies=models.json_values(5, 10, 15, 20, 25),
        why="Five keys in 125 requests that are not counted; all later answers come from memory in 2 ms.",
    ),
    Plant(
        SLIPWAY, "20 kB of JSON before a spectrum", ITS_OWN, code={"kind": "spectrum", "thousands": 1_000}, rate=7,
        numbers=(2_000,), serve=TWO,
        why="2,000 numbers are read in 0.5 ms, the spectrum takes 20 to 30 at 0.1 of two cores.",
    ),
    Plant(
        SLIPWAY, "service with six connections, one at work", ("none",), rate=12, serve=TWELVE,
        code={"kind": "slots", "slots": 6, "seconds": 0.025},
        why="12/s of 25 ms are 0.3 of six slots: the sixth is wanted by one in a million. A short wait is its own.",
    ),
    Plant(
        SLIPWAY, "connections closed at no cost", ITS_OWN, code=HASH_30, rate=7, serve=TWO,
        around=proxied("close", 0.0),
        why="A new connection through the proxy takes 0.5 ms, the hash 30; two are busy for 2 % of requests.",
    ),
)  # fmt: skip
WAITS = (
    Plant(
        SLIPWAY, "24 callers of a hash", ("capacity",), code=HASH_30, users=24, serve=("--script-workers", "2"),
        why="30 ms on each of two cores: 24 callers share 63/s, so each waits 350 of 380 ms while both cores work.",
    ),
    Plant(
        SLIPWAY, "hash on two threads at 85 %", ("capacity",), code={"kind": "halves", "rounds": 36}, rate=74,
        serve=TWELVE,
        why="Two halves of 10 ms, and 2 of server and client, at 74/s: 1.63 of two cores, which both work. M/D/1 of 11 "
        "ms at 0.81 waits 10 service times at p99: 110 of 120 ms.",
    ),
    Plant(
        SLIPWAY, "service with a rate limit", ("serial",), code={"kind": "spaced", "seconds": 0.035}, rate=21,
        serve=TWELVE,
        why="One call may begin in 35 ms: 74 % of that is used. M/D/1 waits 7 times that at p99, 240 ms, while the "
        "cores idle; a call that comes alone waits for nothing.",
    ),
    Plant(
        SLIPWAY, "eight calls on three threads", ("serial",), rate=19, serve=TWELVE,
        code={"kind": "fans", "calls": 8, "slots": 3, "seconds": 0.015},
        why="120 ms of calls a request at 19/s: 2.3 of three threads. As M/D/1 of 40 ms at 0.76 it waits 8 times that "
        "at p99: 300 of 345 ms, and 45 are for two rounds more than one; the cores idle.",
    ),
    Plant(
        SLIPWAY, "one instance of a hash", ("serial",), code=HASH_20, rate=42, serve=ONE,
        why="16 to 20 ms at 42/s: 70 to 84 % of one thread. M/D/1 waits 7 times that at p99: 115 of 130 ms, while the "
        "other core has only the client's 10 %.",
    ),
    Plant(
        SLIPWAY, "timer of 45 ms", ("batch_timer",), network=SLIM, rate=32, serve=("--max-queue-delay-us", "45000"),
        why="The first of two or three requests waits 45 ms for the others, never for 32 rows; the run takes 0.3.",
    ),
    Plant(
        SLIPWAY, "answers when it has been quiet", ("batch_timer",), code={"kind": "debounced", "quiet_s": 0.045},
        rate=14, serve=TWELVE,
        why="Each waits until none has come for 45 ms: 45 at least, and 150 or more at p99, as 47 % of gaps are "
        "shorter. Nothing is computed, and 1 of twelve threads is taken.",
    ),
)  # fmt: skip
BODIES_AND_WAYS = (
    Plant(
        SLIPWAY, "30 rows of CSV", ("codec",), network=(2_000, 8, 1), bodies=models.csv(30, 2_000), rate=9,
        why="60,000 numbers, 1.2 MB of text, are read in 20 to 30 ms; 30 rows of 16,000 products take 1.",
    ),
    Plant(
        SLIPWAY, "JSON in a string of JSON", ("codec",), code={"kind": "doubly"}, bodies=models.json_in_json(70_000),
        rate=8, serve=TWO,
        why="1.4 MB are read as one string in 1 to 2 ms, and then its 70,000 numbers in 15 to 20; their sum takes 0.3.",
    ),
    Plant(
        SLIPWAY, "link of 1.3 MB per s", ("bandwidth",), network=(3_000, 8, 1), rate=25, around=proxied("rate", 1.3e6),
        why="30 kB take 23 ms of the way up, 58 % of the time: M/D/1 waits 4 times that, 90 of 115 ms; reading 3,000 "
        "numbers takes 1.",
    ),
    Plant(
        SLIPWAY, "network credit that is used up", ("bandwidth",), code={"kind": "light"}, numbers=(8_000,), rate=18,
        serve=TWO, link="tbf rate 9mbit burst 2mb latency 900ms",
        why="80 kB at 18/s are 11.8 Mbit/s for a link of 9: the credit of 16 Mbit lasts for 5 s, and then a queue "
        "grows by 0.3 s each second. Reading takes 2 ms.",
    ),
    Plant(
        SLIPWAY, "gateway that asks for permission", ("network_latency",), network=SLIM, rate=22,
        around=proxied("permit", 0.045),
        why="Each question is held for 45 ms on the way, beside the others; the server answers in 2.",
    ),
    Plant(
        SLIPWAY, "idle connections closed after 40 ms", ("connections",), network=EDGE, rate=7,
        around=proxied("idle", 0.05),
        why="A connection is idle for longer than 40 ms before 75 % of requests, and a new one takes 50; on a kept one "
        "a request takes 2.",
    ),
)  # fmt: skip
ITS_WORK = (
    Plant(
        SLIPWAY, "weights that are expanded", ("model_size", "hardware"), code={"kind": "expands", "megabytes": 70},
        rate=6, serve=TWO,
        why="70 MB are read and 280 written for each request: 50 ms or more. Nobody can look into a script: a slow "
        "machine is as fair a word.",
    ),
    Plant(
        SLIPWAY, "sorts for 50 ms", ("hardware",), "base=0 sort=0.05", rate=5,
        why="50 ms on one core at 5/s: a quarter of one thread. p99 waits for one run at most before its own.",
    ),
    Plant(
        SLIPWAY, "one body in nine has 32 lines", ("input_size",), model=models.public(ANGLE), rate=10,
        bodies=models.npy(*[(1, 3, 48, 192)] * 8, (32, 3, 48, 192)),
        why="32 lines take 15 to 30 ms and one takes 1: 11 % of requests. Their 3.5 MB are read in 2.",
    ),
)  # fmt: skip
MACHINE = (
    Plant(
        SLIPWAY, "quota of one core for two instances", ("cpu_quota",), code=HASH_13, rate=72, serve=TWO,
        around=quota(1.0),
        why="72/s of 12 to 14 ms are 86 to 100 % of the quota and half of that of the machine: two instances use 100 "
        "ms of a period up with the eighth request. M/D/1 at 0.86 waits 160 ms at p99; without the quota 30.",
    ),
    Plant(
        SLIPWAY, "six burners", ("neighbour",), code=HASH_20, rate=10, serve=TWO, around=burners(6),
        why="Seven programs want two cores: 16 to 20 ms become 55 to 70. Alone p99 is 30.",
    ),
    Plant(
        SLIPWAY, "table of jobs", ("neighbour",), code=HASH_13, rate=16, serve=TWO, around=burners(1, CRON),
        why="20 jobs of 0.14 s keep two cores busy for 1.4 of 3.6 s; a hash that shares one with ten takes 50 to 130 "
        "ms instead of 13.",
    ),
    Plant(
        SLIPWAY, "stops of 220 ms", ("stall",), model=models.public(ANGLE), bodies=LINE, rate=35,
        around=stopping(1.2, 0.22),
        why="15 % of requests come during a stop: 205 ms at p99, for a model of 1.",
    ),
    Plant(
        SLIPWAY, "container paused by a backup", ("stall",), code=HASH_12, rate=18, serve=TWO, around=frozen(1.7, 0.3),
        why="15 % of requests come during a pause: 280 ms at p99 and the hashes that wait behind it; alone 20.",
    ),
    Plant(
        SLIPWAY, "four threads that prefetch", ("threads",), code={"kind": "prefetches", "threads": 4, "rounds": 40},
        rate=8, serve=TWO, around=burners(0),
        why="Five threads of the process want two cores: 13 ms become 33 or more, and the event loop waits for its "
        "turn. Requests alone are 0.12 of two cores.",
    ),
    Plant(
        SLIPWAY, "cache that is empty at first", ("cold_start",), code={"kind": "misses", "seconds": 0.2}, rate=15,
        serve=TWELVE, warmup_s=0.0, bodies=models.json_values(*range(10, 40)),
        why="30 keys are asked for once, 0.2 s each, in the first seconds: 13 % of requests, so p99 is one of them; "
        "then an answer takes 2 ms. Three of twelve threads are taken.",
    ),
    Plant(
        SLIPWAY, "client that sends 30 at once", ("other_traffic",), code=HASH_13, rate=12, serve=TWO, other_rate=0.6,
        other_burst=30,
        why="Its 30 hashes take 160 to 210 ms of both instances each 1.7 s: 10 % of ours come in that time, and wait "
        "up to 160 at p99; alone 20.",
    ),
    Plant(
        SLIPWAY, "client of the same lock", ("other_traffic",), "base=0 lock=0.014", rate=12, other_rate=48.0,
        why="Its 48/s take 67 % of the lock and ours 17: M/D/1 at 0.84 waits 9 times 14 ms or more at p99, 130; alone "
        "p99 is 30.",
    ),
    Plant(
        SLIPWAY, "generator with four burners", ("generator",), network=SLIM, rate=70, client=on_core(),
        around=crowded(4),
        why="The client has a fifth of its core, in turns of some milliseconds of each: it sends and reads late by 10 "
        "to 20. The server has the other core, and takes 1.",
    ),
    Plant(
        SLIPWAY, "generator that is taken away", ("generator",), network=EDGE, rate=40, client=HICCUPS,
        why="For 0.2 s of each second the client does not run: 20 % of requests are sent or read late, 190 ms at p99. "
        "The server takes 2.",
    ),
)  # fmt: skip
TWO_AT_ONCE = (
    Plant(
        SLIPWAY, "stops of 350 ms, and a timer of 25", ("stall",), network=SLIM, rate=30,
        serve=("--max-queue-delay-us", "25000"), around=stopping(1.6, 0.35),
        why="18 % of requests come during a stop: 330 ms at p99; the timer adds 25.",
    ),
    Plant(
        SLIPWAY, "hash, 15 ms away", ("network_latency", "hardware"), code=HASH_30, rate=8, serve=TWO,
        around=proxied("delay", 0.015), why="30 ms on the way and 23 to 30 in the model: neither is twice the other.",
    ),
    Plant(
        SLIPWAY, "quota of 0.4, and 9 ms away", ("cpu_quota",), code=HASH_20, rate=16, serve=TWO, around=quota(0.4),
        why="16/s of 18 to 21 ms are 70 to 85 % of the quota: the second in a period uses its 40 ms up, and a third "
        "waits for the next. 60 to 150 ms at p99; without the quota 30.",
    ),
    Plant(
        SLIPWAY, "first request of 2.6 s, and no connection kept", ("cold_start",), "base=0.002 cold=2.6", rate=20,
        warmup_s=0.0, around=proxied("handshake", 0.03),
        why="Up to 52 of 240 requests wait for the first one: 2.5 s at p99; a new connection takes 30 ms.",
    ),
    Plant(
        SLIPWAY, "one decoder in ten takes 110 steps, 12 ms away", ("input_size",), rate=8, serve=TWO,
        code={"kind": "generates", "rounds": 3}, numbers=(*[3] * 9, 110), around=proxied("delay", 0.012),
        why="110 steps of 1 ms and three: 10 % of requests, so p99 has 110 of 136 ms; the way takes 24.",
    ),
)  # fmt: skip
ON_SLIPWAY = (*AT_EASE, *WAITS, *BODIES_AND_WAYS, *ITS_WORK, *MACHINE, *TWO_AT_ONCE)
