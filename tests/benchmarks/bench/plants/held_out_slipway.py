"""The held-out plants on Slipway.

``why`` counts in milliseconds of one core of a machine with two: a request that computes nothing takes one or two.
"""

from __future__ import annotations

from functools import partial

from . import models, slipway
from .around import BUILD, burners, proxied, quota
from .models import DETECTOR
from .plant import ITS_OWN, SLIPWAY, Plant

TWELVE, TWO, EIGHT = ("--instances", "12"), ("--instances", "2"), ("--instances", "8")
TWO_WORKERS = ("--script-workers", "2")
HASH_7, HASH_10, HASH_13, HASH_20 = ({"kind": "hashes", "rounds": rounds} for rounds in (20, 30, 40, 60))
SLIM, EDGE = (96, 300, 2), (40, 24, 1)
"""Dense networks: inputs, hidden size, layers."""

AT_EASE = (
    Plant(
        SLIPWAY, "twelve threads, one at work", ITS_OWN, code=HASH_10, rate=15, serve=TWELVE,
        why="10 ms without the interpreter's lock, 15/s: 0.17 cores of two. Three at once are 1 % of requests; idle "
        "threads cost nothing.",
    ),
    Plant(
        SLIPWAY, "handshake of 30 ms, connections kept", ("none",), network=EDGE, rate=25, warmup_s=3.0,
        around=proxied("kept", 0.03),
        why="2 ms at 25/s: 0.05 in flight. The warm-up opens the two connections that this needs; a third one is "
        "wanted by 0.1 % of requests, so p99 has none of the 30 ms.",
    ),
    Plant(
        SLIPWAY, "2 kB over 60 Mbit per s", ITS_OWN, code=HASH_20, rate=10, numbers=(200,), serve=TWO,
        link="tbf rate 60mbit burst 32kb latency 500ms",
        why="2 kB take 0.3 ms of the link, which is 0.3 % busy; the hash takes 20, on 0.2 cores of two.",
    ),
    Plant(
        SLIPWAY, "second client, once a second", ITS_OWN, code=HASH_13, rate=15, serve=TWO, other_rate=1.0,
        why="Ours use 0.2 cores of two and its one request 0.013: both instances are busy for 2.0 % of ours instead "
        "of 1.8 %, so its part of p99 is below 1 ms of 15.",
    ),
    Plant(
        SLIPWAY, "rows of like lengths that are padded", ITS_OWN, rate=15,
        model=partial(slipway.padded, hidden=192, longest=256),
        bodies=partial(slipway.rows_of, (120, 122, 124, 126)),
        why="At 15/s of 2.5 ms one in 25 finds company, and a pair of 120 and 126 is padded by 3 %.",
    ),
    Plant(
        SLIPWAY, "few rules, read again every second", ("none",), rate=30,
        code={"kind": "rules", "rules": 300, "pause_s": 1.0},
        why="300 rules are read in 0.3 ms: 0.03 % of the time, for requests of 2 ms.",
    ),
    Plant(
        SLIPWAY, "counter behind a lock", ITS_OWN, code={"kind": "counts", "rounds": 40}, rate=15,
        serve=("--instances", "4"),
        why="The lock is held for 1 ms at 15/s: 1.5 % busy, a wait of 0.01 ms on average; the hash before it takes 13.",
    ),
    Plant(
        SLIPWAY, "bodies of many sizes, one cost", ITS_OWN, code=HASH_13, rate=15, serve=TWO,
        bodies=models.json_values(10, 100, 1_000, 2_000),
        why="The hash takes 13 ms for all of them; reading 2,000 numbers takes 0.4 ms, reading ten nothing.",
    ),
    Plant(
        SLIPWAY, "loads during the warm-up", ("none",), code={"kind": "compiles", "seconds": 1.0}, rate=20,
        warmup_s=4.0,
        why="The first request takes 1 s and 20 wait behind it; all have their answers in the second second of four "
        "that are not counted.",
    ),
    Plant(
        SLIPWAY, "access log as JSON", ITS_OWN, network=(700, 1_500, 3), rate=15,
        serve=("--access-log", "--log-format", "json"),
        why="A line of log takes 0.05 ms of a request of 3, and 3 ms at 15/s are 5 % of the capacity.",
    ),
)  # fmt: skip
WAITS = (
    Plant(
        SLIPWAY, "photographs at nine tenths", ("capacity",), code={"kind": "photo"}, rate=50, serve=TWO_WORKERS,
        bodies=models.json_photos(1_600),
        why="Decoding takes 32 ms and the server 2: 1.7 of two cores. M/M/2 at 0.85 waits ln(78)/(0.3/34 ms), 490 ms, "
        "at p99; of even service times half: 245 of 280. Both cores work.",
    ),
    Plant(
        SLIPWAY, "20 callers with long texts", ("capacity",), code={"kind": "tokens"}, users=20, serve=TWO_WORKERS,
        bodies=models.texts_in_json(10_000, 10_000),
        why="30 ms of tokenizing on each of two cores: 20 callers share 67/s, so each waits 270 of 300 ms while both "
        "cores work.",
    ),
    Plant(
        SLIPWAY, "two connections to a service", ("serial",), code={"kind": "slots", "slots": 2, "seconds": 0.05},
        rate=30, serve=TWELVE,
        why="30/s of 50 ms are 1.5 of two slots. M/M/2 at 0.75 waits ln(64)/(10/s), 416 ms, at p99; of even service "
        "times half: 200 of 250 ms, while the cores idle.",
    ),
    Plant(
        SLIPWAY, "lock for each tenant, one is loud", ("serial",), code={"kind": "tenants", "seconds": 0.04},
        rate=24, numbers=(8, 8, 8, 8, 9), serve=TWELVE,
        why="19 of 24/s want one lock for 40 ms: 77 % busy. M/D/1 waits 8.5 service times at p99: 340 of 380 ms, "
        "while the cores idle.",
    ),
    Plant(
        SLIPWAY, "session behind a lock", ("serial",), serve=EIGHT, rate=10,
        code={"kind": "guarded", "model": DETECTOR, "side": 256},
        why="One run at a time takes 70 ms on one thread: 70 % busy. M/D/1 waits 6 service times at p99: 420 of 490 "
        "ms, while the other core idles.",
    ),
    Plant(
        SLIPWAY, "timer of 80 ms at 60/s", ("batch_timer",), network=SLIM, rate=60,
        serve=("--max-queue-delay-us", "80000"),
        why="The first of five requests waits 80 ms for the others, never for 32 rows; the run takes 0.3.",
    ),
    Plant(
        SLIPWAY, "queue that is looked at now and then", ("batch_timer",), rate=20, serve=TWELVE,
        code={"kind": "polled", "pause_s": 0.08, "look_s": 0.02},
        why="Up to 80 ms until the model looks and up to 20 until the request does, 97 at p99; nothing is computed. "
        "1.1 of twelve threads are taken.",
    ),
)  # fmt: skip
BODIES_AND_WAYS = (
    Plant(
        SLIPWAY, "lines of JSON", ("codec",), network=(1_000, 8, 1), bodies=models.json_lines(60, 1_000), rate=10,
        why="60,000 numbers, 1.2 MB, are read in 11 ms; 60 rows of 8,000 products take 1.",
    ),
    Plant(
        SLIPWAY, "compressed archive of an array", ("codec",), network=(500_000, 2, 1), rate=10,
        bodies=models.compressed((1, 500_000)),
        why="2 MB of numbers are expanded in 20 ms; their million products take 1.",
    ),
    Plant(
        SLIPWAY, "six callers share an uplink", ("bandwidth",), network=(24_000, 6, 1), users=6,
        bodies=models.npy((1, 24_000)), around=proxied("uploads", 4e6),
        why="96 kB in pieces of 8 take 40 ms of the way up, which is always busy: 240 ms a round; the server 1.",
    ),
    Plant(
        SLIPWAY, "losses on the way", ("network_latency",), network=SLIM, rate=25, around=proxied("loss", 0.03),
        why="Question and answer are each held back 200 ms with 3 %: 6 % of requests, so p99 is 200 of 202.",
    ),
    Plant(
        SLIPWAY, "60 ms away each way", ("network_latency",), code=HASH_7, rate=15, serve=TWO,
        around=proxied("delay", 0.06), why="120 ms on the way and 7 in the model, which is at a twentieth.",
    ),
    Plant(
        SLIPWAY, "eight answers a connection", ("connections",), network=EDGE, rate=20, around=proxied("eight", 0.07),
        why="Each eighth request needs a new connection and waits 70 ms for it; on a kept one a request takes two.",
    ),
)  # fmt: skip
ITS_WORK = (
    Plant(
        SLIPWAY, "wide layer of 190 MB", ("model_size",), network=(16_000, 3_000, 1), bodies=models.npy((1, 16_000)),
        rate=15,
        why="192 MB are read for two operations a number: 15 to 20 ms from memory. Busy for a quarter, so p99 waits "
        "for one run before its own.",
    ),
    Plant(
        SLIPWAY, "spectrum of a million samples", ("hardware",), code={"kind": "spectrum", "thousands": 1_000},
        rate=8, serve=TWO_WORKERS,
        why="20 ms of native code on one thread, 0.16 of two cores: 1.2 % of requests wait at all.",
    ),
    Plant(
        SLIPWAY, "one text in ten ends in blanks", ("input_size",), code={"kind": "blanks"}, rate=15,
        bodies=models.json_blanks(*[20] * 9, 3_000),
        why="3,000 blanks take 50 ms and 20 nothing; 1.5/s are 8 % of the time, so a sixth is slow by them, and p99 "
        "is one of them.",
    ),
    Plant(
        SLIPWAY, "one text in twelve is a book", ("input_size",), code={"kind": "tokens"}, rate=15, serve=TWO,
        bodies=models.texts_in_json(*[10] * 11, 20_000),
        why="20,000 words take 100 ms and ten nothing: 8 % of requests, so p99 is one of them.",
    ),
    Plant(
        SLIPWAY, "forest with 24 jobs", ("threads",), code={"kind": "forest", "trees": 100, "jobs": 24}, rate=5,
        why="24 threads take turns for 65 ms at what one does in 6; they cause the queue before them too.",
    ),
    Plant(
        SLIPWAY, "rows of 24 beside 900, ten callers", ("padding", "serial", "capacity"), users=10,
        model=partial(slipway.padded, hidden=320, longest=900),
        bodies=partial(slipway.rows_of, (24, 24, 24, 24, 900)),
        why="Of eight rows in a batch one or two have 900: 83 % of batches are padded, and 78 % of those is padding.",
    ),
)  # fmt: skip
MACHINE = (
    Plant(
        SLIPWAY, "quota of 0.45 for a spectrum", ("cpu_quota",), code={"kind": "spectrum", "thousands": 1_000},
        rate=14, around=quota(0.45),
        why="14/s of 22 ms are 70 % of the quota: two in a period use its 45 ms up, and 25 % of periods have two or "
        "more behind one. Waits of 55 to 150 ms at p99; without the quota 25.",
    ),
    Plant(
        SLIPWAY, "build with four jobs", ("neighbour",), code=HASH_13, rate=15, serve=("--instances", "4"),
        around=burners(4, BUILD),
        why="Five programs want two cores: 13 ms become 50 to 80. Alone p99 is below 20.",
    ),
    Plant(
        SLIPWAY, "many rules, read again", ("stall", "threads"), rate=25,
        code={"kind": "rules", "rules": 150_000, "pause_s": 1.2},
        why="Reading keeps the interpreter's lock for 200 ms of each 1.4 s: 14 % of requests wait, 190 ms at p99, for "
        "an answer of 2.",
    ),
    Plant(
        SLIPWAY, "log flushed after every 30", ("stall", "serial"), rate=30, serve=TWELVE,
        code={"kind": "flushes", "every": 30, "seconds": 0.35},
        why="Every second all wait up to 350 ms, 35 % of requests; an answer takes 2. The lock is a request's.",
    ),
    Plant(
        SLIPWAY, "each of three workers compiles", ("cold_start",), code={"kind": "compiles", "seconds": 1.0}, rate=20,
        serve=("--script-workers", "3"), warmup_s=0.0,
        why="Three first requests need 1 s of two cores each, 1.5 s; 30 of 400 requests wait for it, 7 %. Then an "
        "answer takes 2 ms.",
    ),
    Plant(
        SLIPWAY, "client that uploads tables", ("other_traffic",), network=(4_000, 8, 1), rate=15,
        bodies=models.npy((1, 4_000)), other_body=models.csv(20, 4_000), other_rate=5.0,
        why="Its 80,000 numbers keep the event loop for 40 ms, 20 % of the time: p99 of ours is 38 of 40; alone 2.",
    ),
    Plant(
        SLIPWAY, "client that fills the link", ("other_traffic", "bandwidth"), code={"kind": "light"}, rate=15,
        other_body=models.json_values(8_000), other_rate=6.0, link="tbf rate 16mbit burst 16kb latency 900ms",
        why="Its 160 kB take 80 ms of the link, 48 % of the time: ours, which take 1, wait up to 80 behind them.",
    ),
    Plant(
        SLIPWAY, "client with one connection", ("generator",), code={"kind": "downstream", "seconds": 0.04}, rate=16,
        serve=EIGHT, options=("--connections", "1"),
        why="The server takes eight at once and has one. The client's connection is 67 % busy: M/D/1 waits 5 service "
        "times at p99, 200 of 240 ms, before a request is sent.",
    ),
)  # fmt: skip
TWO_AT_ONCE = (
    Plant(
        SLIPWAY, "three connections to a service, 9 ms away", ("serial",), rate=28, serve=TWELVE,
        code={"kind": "slots", "slots": 3, "seconds": 0.08}, around=proxied("delay", 0.009),
        why="28/s of 80 ms are 75 % of three slots: M/M/3 waits ln(56)/(9.5/s) at p99, of even service times half: "
        "210 ms. The way takes 18.",
    ),
    Plant(
        SLIPWAY, "lines of JSON over 600 Mbit per s", ("codec", "bandwidth"), network=(1_000, 8, 1), rate=8,
        bodies=models.json_lines(60, 1_000), link="tbf rate 600mbit burst 128kb latency 300ms",
        why="1.2 MB take 16 ms of the link and 11 ms to read: neither is twice the other.",
    ),
    Plant(
        SLIPWAY, "handshake of 30 ms, and a timer of 12", ("connections", "network_latency"), network=SLIM, rate=15,
        serve=("--max-queue-delay-us", "12000"), around=proxied("handshake", 0.03),
        why="No connection is kept: 30 ms for a new one; the timer adds 12. A nearer proxy is as fair an advice.",
    ),
)  # fmt: skip
ON_SLIPWAY = (*AT_EASE, *WAITS, *BODIES_AND_WAYS, *ITS_WORK, *MACHINE, *TWO_AT_ONCE)
