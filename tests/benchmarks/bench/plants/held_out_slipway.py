"""The held-out plants on Slipway, the sixth set.

``why`` counts in milliseconds of one core of a machine with two: a request that computes nothing takes one or two.
"""

from __future__ import annotations

from . import models
from .around import IN_GROUP, burners, client_quota, pod_quota, proxied, quota, stopping
from .models import DETECTOR
from .plant import ITS_OWN, SLIPWAY, Plant
from .programs import PULSES

TWELVE, SIX, TWO, ONE = (("--instances", count) for count in ("12", "6", "2", "1"))
HASH_12, HASH_14, HASH_18, HASH_22 = ({"kind": "hashes", "rounds": rounds} for rounds in (40, 48, 60, 75))
"""Thousands of rounds; each takes 0.25 to 0.33 ms."""
SLIGHT, MODEST = (40, 24, 1), (100, 150, 3)
"""Dense networks: inputs, hidden size, layers."""
SIZES = models.npy(*[(1, 3, 128, 128)] * 7, (1, 3, 512, 512))

AT_EASE = (
    Plant(
        SLIPWAY, "modest network, 70/s", ("none",), network=MODEST, rate=70,
        why="60,000 products and a body of 1 kB: 1 to 2 ms at 70/s, a tenth of the machine.",
    ),
    Plant(
        SLIPWAY, "hash, 0.4 ms away", ITS_OWN, code=HASH_22, rate=6, serve=TWO, around=proxied("delay", 0.0004),
        why="The way takes 1 to 2 ms with the proxy's own work, the hash 19 to 25; two are busy for 1 % of requests.",
    ),
    Plant(
        SLIPWAY, "hash, and a millisecond behind a lock", ITS_OWN, code={"kind": "counts", "rounds": 84}, rate=7,
        serve=TWO,
        why="The lock is held for 1 ms at 7/s: 0.7 % of the time, against 21 to 28 ms of the hash.",
    ),
    Plant(
        SLIPWAY, "first request of 0.9 s in the warm-up", ITS_OWN, "base=0.006 cold=0.9", rate=15, warmup_s=4.0,
        serve=TWO,
        why="It is long over when the first request counts; then each computes for 6 ms at a tenth of a core.",
    ),
    Plant(
        SLIPWAY, "every request logged", ("none",), network=SLIGHT, rate=60, serve=("--access-log",),
        why="A line of log takes 0.1 ms of the 1 to 2 of a request.",
    ),
    Plant(
        SLIPWAY, "twelve tenants, a lock each", ("none",), code={"kind": "tenants", "seconds": 0.006}, rate=12,
        serve=TWELVE, bodies=models.json_values(*range(10, 22)),
        why="A tenant comes once in twelve requests, a second apart, and holds its own lock for 6 ms: two hardly meet, "
        "and a short wait is its own.",
    ),
    Plant(
        SLIPWAY, "inputs of sizes that do not matter", ("none",), code={"kind": "light"}, rate=40, serve=TWO,
        numbers=(*[64] * 6, 500),
        why="500 numbers, 5 kB, are read in 0.1 ms and 64 in 0.02; all are answered in 1 or 2.",
    ),
    Plant(
        SLIPWAY, "client with a quota that it does not need", ("none",), network=SLIGHT, rate=60, client=IN_GROUP,
        around=client_quota(1.6),
        why="The client takes 1 to 3 of the 160 ms that each period allows, and the server 1 or 2 a request.",
    ),
)  # fmt: skip
PLAIN = (
    Plant(
        SLIPWAY, "140/s of a hash on two workers", ("capacity",), code={"kind": "hashes", "rounds": 66}, rate=140,
        serve=("--script-workers", "2"),
        why="16 to 22 ms and 2 of server and client at 140/s: 2.5 to 3.3 of two cores, so the queue grows by 0.3 s or "
        "more each second; the hash is a hundredth of p99.",
    ),
    Plant(
        SLIPWAY, "lock of 22 ms", ("serial",), "base=0 lock=0.022", rate=33, serve=TWELVE,
        why="73 % of the lock. M/D/1 waits 6 times 22 ms at p99: 130 to 150 of 170, while the cores idle.",
    ),
    Plant(
        SLIPWAY, "timer of 55 ms", ("batch_timer",), network=MODEST, rate=18, serve=("--max-queue-delay-us", "55000"),
        why="The first of one or two waits for all of 55 ms, never for 32 rows at 18/s; the run takes 0.2.",
    ),
    Plant(
        SLIPWAY, "answers 110,000 numbers", ("codec",), code={"kind": "floats", "count": 110_000}, rate=3, serve=TWO,
        why="2.2 MB of JSON are written in 30 to 60 ms, and the script computes nothing; at 3/s few meet.",
    ),
    Plant(
        SLIPWAY, "proxy of 900 kB per s", ("bandwidth",), code={"kind": "light"}, numbers=(6_000,), rate=6, serve=TWO,
        around=proxied("rate", 9e5),
        why="60 kB take 67 ms of the way up, 40 % of the time: 67 to 200 at p99. 6,000 numbers are read in 2.",
    ),
    Plant(
        SLIPWAY, "spins for 75 ms", ("hardware",), code={"kind": "computes", "seconds": 0.075}, rate=2.5, serve=TWO,
        why="75 ms of Python at 2.5/s: a fifth of one core. p99 shares the interpreter with one other at most, which "
        "is the model's time too.",
    ),
    Plant(
        SLIPWAY, "quota of 0.35", ("cpu_quota",), code=HASH_14, rate=19, serve=TWO, around=quota(0.35),
        why="19/s of 14 to 17 ms are 76 to 92 % of the quota: two use its 35 ms of a period up, and a third waits for "
        "the next. 70 to 250 ms at p99; without the quota 25.",
    ),
    Plant(
        SLIPWAY, "seven burners", ("neighbour",), code=HASH_14, rate=9, serve=TWO, around=burners(7),
        why="Eight programs want two cores: 12 to 16 ms become 48 to 64. Alone p99 is 20.",
    ),
    Plant(
        SLIPWAY, "stops of 280 ms", ("stall",), network=MODEST, rate=28, around=stopping(1.5, 0.28),
        why="16 % of requests come during a stop: 260 ms at p99, for an answer of 2.",
    ),
    Plant(
        SLIPWAY, "a heap of 2,600,000 objects", ("stall",), "base=0.002 garbage=2600000", rate=30, serve=TWO,
        why="A full collection keeps the interpreter for 150 to 260 ms of each 2.2 s, 7 to 11 % of requests: 130 or "
        "more at p99, for a model of 2.",
    ),
    Plant(
        SLIPWAY, "session with 14 threads", ("threads",), rate=2, serve=TWO,
        code={"kind": "session", "model": DETECTOR, "side": 160, "threads": 14},
        why="6 to 8 ms with two threads; 14 that spin for each other on two cores take 60 to 250.",
    ),
    Plant(
        SLIPWAY, "one input in nine has 16,000 numbers", ("input_size",), "base=0.001 length=0.000004", rate=9,
        numbers=(*[64] * 8, 16_000), serve=TWO,
        why="64 ms of computing and 2 of reading for 11 % of requests, so p99 is one of them; the others take 2.",
    ),
    Plant(
        SLIPWAY, "client with a tenth of a core", ("generator",), network=SLIGHT, rate=550, client=IN_GROUP,
        around=client_quota(0.1),
        why="The client may use 10 ms of each 100, in which 55 requests are due that take it 0.2 to 0.5 each: it sends "
        "and reads up to 90 ms late, and more each second. The server takes 1 and has a core to itself.",
    ),
)  # fmt: skip
NEW = (
    Plant(
        SLIPWAY, "coroutine that blocks its loop", ("serial",), code={"kind": "blocking", "seconds": 0.024}, rate=30,
        serve=TWELVE,
        why="The one event loop of all requests is blocked for 24 ms at 30/s, 72 % of the time: M/D/1 waits 6 times "
        "that at p99, 145 of 170 ms, while the cores idle.",
    ),
    Plant(
        SLIPWAY, "answers when five are there", ("batch_timer",), code={"kind": "window", "for_s": 0.8, "size": 5},
        rate=45, serve=TWELVE,
        why="The first of five waits for four gaps of 22 ms, 89 on average, and 200 around p99; nothing is computed.",
    ),
    Plant(
        SLIPWAY, "30,000 numbers in XML", ("codec",), code={"kind": "markup"}, bodies=models.json_markup(30_000),
        rate=6, serve=TWO,
        why="1.1 MB of XML are read as one string in 1 to 3 ms and parsed in 20 to 40; nothing else is done with them.",
    ),
    Plant(
        SLIPWAY, "link that another client fills", ("bandwidth", "other_traffic"), code={"kind": "light"}, rate=20,
        serve=TWO, link="tbf rate 10mbit burst 16kb latency 900ms", other_rate=3.5, other_burst=4,
        other_body=models.json_values(3_000),
        why="Its four bodies of 62 kB take 200 ms of the link in each 286; ours of 0.6 kB wait for what it has on the "
        "way, four windows of 15 to 60 kB: 45 to 190 ms at p99. Reading theirs takes 1 each, and ours 2 in all.",
    ),
    Plant(
        SLIPWAY, "radio that wakes every 70 ms", ("network_latency",), network=SLIGHT, rate=14,
        around=proxied("beacon", 0.07),
        why="Each answer waits for the next beacon: 35 ms on average, 69 at p99; the server takes 2.",
    ),
    Plant(
        SLIPWAY, "weights loaded for each request", ("model_size", "hardware"), rate=4, serve=TWO,
        code={"kind": "loads", "megabytes": 130},
        why="130 MB are copied from the page cache into new memory and then read: 25 to 60 ms. Nobody can look into a "
        "script: a slow machine is as fair a word.",
    ),
    Plant(
        SLIPWAY, "packs 300 kB with LZMA", ("hardware",), code={"kind": "packs", "kilobytes": 300}, rate=2.5, serve=TWO,
        why="60 to 120 ms of native code on one thread at 2.5/s, without weights: a tenth of two cores.",
    ),
    Plant(
        SLIPWAY, "quota of the pod", ("cpu_quota",), code=HASH_18, rate=25, serve=TWO, around=pod_quota(0.5),
        why="25/s of 17 to 21 ms are 85 to 105 % of 50 ms a period: the third or fourth of a period waits for the "
        "next. 100 ms or more at p99; without the quota 35.",
    ),
    Plant(
        SLIPWAY, "two programs of high priority", ("neighbour",), code=HASH_12, rate=8, serve=TWO,
        around=burners(2, PULSES),
        why="Both cores are theirs for 70 ms of each 110: a hash of 10 to 13 ms that comes or runs then ends 70 later. "
        "80 at p99; alone 15.",
    ),
    Plant(
        SLIPWAY, "token that is good for 1.6 s", ("stall",), rate=25, serve=TWELVE,
        code={"kind": "token", "every_s": 1.6, "for_s": 0.32},
        why="A new one takes 320 ms of each 1.95 s, in which all requests wait: 16 %, 300 ms at p99. At other times "
        "an answer takes 2.",
    ),
    Plant(
        SLIPWAY, "one page in eight has 16 times the area", ("input_size",), model=models.public(DETECTOR), rate=6,
        bodies=SIZES, options=("--header", "Accept: application/x-npy"),
        why="A side of 512 takes 60 to 100 ms in the model and some to be read, one of 128 takes 5: 12 % of requests, "
        "so p99 is one of them.",
    ),
    Plant(
        SLIPWAY, "model fetched by each thread", ("cold_start",), code={"kind": "perthread", "seconds": 0.8}, rate=14,
        serve=SIX, warmup_s=0.0,
        why="The first request of each of six threads takes 0.8 s, and those that come meanwhile wait for a thread: 6 "
        "to 11 of 210 requests, in the first second; then an answer takes 2 ms.",
    ),
    Plant(
        SLIPWAY, "balancer that closes connections by age", ("connections",), network=SLIGHT, rate=10,
        around=proxied("aged", 0.05),
        why="After 0.2 s the next answer closes its connection: one request in three or four needs a new one, which "
        "takes 50 ms; on a kept one a request takes 2.",
    ),
    Plant(
        SLIPWAY, "client of the same thread with 1.6 MB", ("other_traffic",), code={"kind": "light"}, rate=20,
        serve=ONE, other_rate=2.5, other_burst=4, other_body=models.json_values(80_000),
        why="Its four bodies take 20 ms or more each of the interpreter and the one thread in each 400: 20 % of ours "
        "wait, 70 ms at p99; alone they take 2.",
    ),
)  # fmt: skip
TWO_AT_ONCE = (
    Plant(
        SLIPWAY, "one instance of 30 ms, 7 ms away", ("serial",), "base=0 sleep=0.03", rate=23, serve=ONE,
        around=proxied("delay", 0.007),
        why="69 % of the one thread, which sleeps: M/D/1 waits 5 times 30 ms at p99, 150 to 170 of 210. The way takes "
        "14.",
    ),
    Plant(
        SLIPWAY, "timer of 40 ms, and no connection kept", ("batch_timer", "connections"), network=MODEST, rate=16,
        serve=("--max-queue-delay-us", "40000"), around=proxied("handshake", 0.03),
        why="The timer adds 40 ms, and a new connection for each request 30; neither is twice the other.",
    ),
    Plant(
        SLIPWAY, "client that sends 26 at once, 6 ms away", ("other_traffic",), code=HASH_12, rate=12, serve=TWO,
        other_rate=0.7, other_burst=26, around=proxied("delay", 0.006),
        why="Its 26 hashes take 130 to 170 ms of both instances each 1.43 s: 10 % of ours come then, and wait up to "
        "130 at p99. The way takes 12 and the hash as much.",
    ),
    Plant(
        SLIPWAY, "hash, and a radio that wakes every 80 ms", ("network_latency",), code=HASH_22, rate=6, serve=TWO,
        around=proxied("beacon", 0.08),
        why="The answer waits for up to 80 ms, 79 at p99, and the hash takes 19 to 25.",
    ),
    Plant(
        SLIPWAY, "token of 1.8 s, 15 ms away", ("stall",), rate=25, serve=TWELVE,
        code={"kind": "token", "every_s": 1.8, "for_s": 0.35}, around=proxied("delay", 0.015),
        why="A new token takes 350 ms of each 2.2 s, in which all wait: 16 %, 325 ms at p99. The way takes 30.",
    ),
)  # fmt: skip
ON_SLIPWAY = (*AT_EASE, *PLAIN, *NEW, *TWO_AT_ONCE)
