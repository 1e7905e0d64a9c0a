"""The tuned plants on Slipway: those that the rules of the verdict were made with, or mended for after a first
measurement."""

from __future__ import annotations

from functools import partial

from . import models, slipway
from .around import (
    IN_GROUP,
    burners,
    client_quota,
    coming_and_going,
    crowded_client,
    later,
    one_core,
    outranked,
    proxied,
    quota,
    stopping,
    stopping_at_random,
)
from .models import ANGLE, DETECTOR, FILE_TYPE, MUSIC, OBJECTS, READER
from .plant import ITS_OWN, SLIPWAY, Plant
from .programs import HOG

SLOW_LINK, LINK = "tbf rate 8mbit burst 8kb latency 800ms", "tbf rate 20mbit burst 16kb latency 900ms"
TINY, SMALL, WIDE, HEAVY = (32, 32, 1), (64, 64, 2), (20_000, 16, 1), (256, 2_000, 4)
MIDDLE, BROAD, DEEP, FLAT = (128, 256, 3), (6_000, 64, 1), (256, 2_500, 10), (10_000, 16, 1)
LEAST, LONG = (48, 16, 1), (12_000, 8, 1)
"""Dense networks: inputs, hidden size, layers."""
LINE, PAGE = models.npy((1, 3, 48, 192)), models.npy((1, 3, 192, 192))
PICTURE, HEAD = models.npy((1, 3, 320, 320)), models.npy((1, 2_048), dtype="int32")
SOUND, ARRAYS = models.npy((1, 43_844, 1)), ("--header", "Accept: application/x-npz")
TEXTS = models.token_ids(*[16] * 7, 700)
HEADS = models.npy((16, 2_048), dtype="int32")
ONE = ("--instances", "1", "--threads", "1")
SHORT_STOPS = stopping(0.4, 0.06)
HASH_10, HASH_20, HASH_45 = ({"kind": "hashes", "rounds": rounds} for rounds in (20, 40, 90))
STARVED = ("chrt", "--other", "0", "taskset", "-c", "0")
"""Beside the burners of ``crowded_client``."""

OLDEST = (
    Plant(SLIPWAY, "nothing", ("none",), network=SMALL, rate=100),
    Plant(SLIPWAY, "batch timer", ("batch_timer",), network=SMALL, serve=("--max-queue-delay-us", "30000"), rate=20),
    Plant(SLIPWAY, "SIGSTOP", ("stall",), network=SMALL, around=stopping(2.0, 0.3)),
    Plant(SLIPWAY, "long inputs", ("input_size",), "length=0.000004", numbers=(*[64] * 7, 20_000), rate=15),
    Plant(SLIPWAY, "cold start", ("cold_start",), "cold=1.5", warmup_s=0.0),
    Plant(SLIPWAY, "a cache", ("hardware", "none"), network=HEAVY, numbers=tuple(range(64, 104)),
          serve=("--cache-mb", "64")),
    Plant(
        SLIPWAY, "padding, eight callers", ("padding", "serial", "capacity"), users=8,
        model=partial(slipway.padded, hidden=256, longest=1_024), bodies=partial(slipway.rows_of, (16, 16, 16, 1_024)),
    ),
)  # fmt: skip
ONCE_HELD_OUT = (
    Plant(
        SLIPWAY, "angle of a line, 20/s", ITS_OWN, model=models.public(ANGLE), bodies=LINE, rate=20,
        why="A real model of 1 ms with a fiftieth of the load that it can take: nothing adds to its own time.",
    ),
    Plant(
        SLIPWAY, "angle of a line in gentle bursts", ITS_OWN, model=models.public(ANGLE), bodies=LINE, rate=40,
        options=("--arrivals", "mmpp:4x1"),
        why="Bursts that stay below a tenth of the capacity make no queue.",
    ),
    Plant(
        SLIPWAY, "tiny network, 500/s", ("none",), network=TINY, rate=500, options=("--arrivals", "constant"),
        why="Even arrivals at a twentieth of the capacity; every answer takes about a millisecond.",
    ),
    Plant(
        SLIPWAY, "tiny network, one caller", ("none",), network=TINY, users=1,
        why="One caller who waits for each answer cannot make a queue.",
    ),
    Plant(
        SLIPWAY, "sentences, 8/s", ITS_OWN, model=models.minilm, bodies=models.texts(6, 8, 10), rate=8,
        why="Short sentences of like lengths: the encoder's own time is nearly all.",
    ),
    Plant(
        SLIPWAY, "random forest, 10/s", ITS_OWN, code={"kind": "forest", "trees": 100}, rate=10,
        why="5 ms of a forest in a script, twenty times below its capacity.",
    ),
    Plant(
        SLIPWAY, "type of a file, 5/s", ITS_OWN, model=models.public(FILE_TYPE), bodies=HEAD, rate=5,
        why="7 ms of a real model, 30 times below its capacity.",
    ),
    Plant(
        SLIPWAY, "two processes at 95 %", ("capacity",), code={"kind": "computes", "seconds": 0.015},
        serve=("--script-workers", "2"), rate=110,
        why="Both cores get Poisson arrivals of nearly their capacity, 133/s less the server's own share: a queue.",
    ),
    Plant(
        SLIPWAY, "bursts above the capacity", ("capacity",), code={"kind": "computes", "seconds": 0.015},
        serve=("--script-workers", "2"), rate=85, options=("--arrivals", "mmpp:8x1"),
        why="For seconds at a time 150/s come to processes that serve 120/s: the queue of those is the tail.",
    ),
    Plant(
        SLIPWAY, "48 callers at once", ("capacity",), model=models.public(OBJECTS), bodies=PICTURE, users=48,
        why="48 callers keep a detector busy on all cores; each waits for the other 47.",
    ),
    Plant(
        SLIPWAY, "lock on a file", ("serial",), code={"kind": "device", "seconds": 0.03},
        serve=("--instances", "4"), rate=26,
        why="Four threads, but a file lock lets one in for 30 ms: 78 % busy while all cores idle.",
    ),
    Plant(
        SLIPWAY, "database transaction", ("serial",), code={"kind": "database", "seconds": 0.02},
        serve=("--script-workers", "3"), rate=35,
        why="Three processes wait for the one writer that SQLite allows: 70 % busy while all cores idle.",
    ),
    Plant(
        SLIPWAY, "one process calls a service", ("serial",), code={"kind": "downstream", "seconds": 0.06},
        serve=("--script-workers", "1"), rate=11,
        why="The only process waits 60 ms for a service: 66 % busy, and a second one would cost nothing.",
    ),
    Plant(
        SLIPWAY, "timer of 15 ms, angle of a line", ("batch_timer",), model=models.public(ANGLE), bodies=LINE, rate=25,
        serve=("--max-queue-delay-us", "15000"),
        why="A model of 1 ms waits 15 ms for company that does not come.",
    ),
    Plant(
        SLIPWAY, "scores of a line in JSON", ("codec",), model=models.public(READER), rate=3,
        bodies=models.npy((1, 3, 48, 320)),
        why="An answer of 750,000 numbers as JSON, some megabytes, takes longer to write than the line to read.",
    ),
    Plant(
        SLIPWAY, "printed numbers, one a line", ("codec",), network=FLAT, bodies=models.wordy(4, 10_000), rate=12,
        why="40,000 numbers with all digits and line ends, for a product that takes a fraction of a millisecond.",
    ),
    Plant(
        SLIPWAY, "script answers 60,000 numbers", ("codec",), code={"kind": "floats", "count": 60_000}, rate=8,
        why="The script computes nothing; its answer of a megabyte is written as JSON.",
    ),
    Plant(
        SLIPWAY, "image over 20 Mbit per s", ("bandwidth",), model=models.public(DETECTOR),
        bodies=models.npy((1, 3, 224, 224)), rate=2, link=LINK,
        why="600 kB take a quarter of a second on the link; the model takes 15 ms.",
    ),
    Plant(
        SLIPWAY, "slow way back", ("bandwidth",), model=models.public(DETECTOR), bodies=PAGE, rate=2,
        around=proxied("answers", 2e6),
        why="Only the answer, half a megabyte of JSON, meets a link of 2 MB/s: a quarter of a second.",
    ),
    Plant(
        SLIPWAY, "jitter of up to 40 ms each way", ("network_latency",), network=TINY, rate=20,
        around=proxied("jitter", 0.04),
        why="Small bodies, a model without work, and 40 ms on the way on average, never the same.",
    ),
    Plant(
        SLIPWAY, "script with 400 MB of weights", ("model_size", "hardware"), rate=6,
        code={"kind": "weights", "megabytes": 400},
        why="The same in a script, which nobody can look into: a slow machine is as fair a word.",
    ),
    Plant(
        SLIPWAY, "detector of objects", ("hardware", "model_size"), model=models.public(OBJECTS), bodies=PICTURE,
        rate=8,
        why="20 ms of convolutions with small weights; a smaller network would be as fair an advice as more cores.",
    ),
    Plant(
        SLIPWAY, "compresses two megabytes", ("hardware",), code={"kind": "compresses", "kilobytes": 2_000}, rate=4,
        why="40 ms of native code on one thread, without weights.",
    ),
    Plant(
        SLIPWAY, "pinned to one core", ("hardware", "cpu_quota", "threads"), model=models.public(OBJECTS),
        bodies=PICTURE, rate=8, around=one_core(1),
        why="The detector's threads share the one core that taskset leaves: too little hardware, a limit, or threads.",
    ),
    Plant(
        SLIPWAY, "quota of 0.3 in short periods", ("cpu_quota",), model=models.public(OBJECTS), bodies=PICTURE, rate=4,
        around=quota(0.3, 20_000),
        why="40 ms of CPU in shares of 6 ms every 20 ms: throttled in every request.",
    ),
    Plant(
        SLIPWAY, "quota of half a core, script", ("cpu_quota",), code={"kind": "computes", "seconds": 0.015}, rate=25,
        around=quota(0.5),
        why="Three requests in one period use its 50 ms up, and the next waits for the period to end.",
    ),
    Plant(
        SLIPWAY, "programs that copy memory", ("neighbour",), model=models.public(OBJECTS), bodies=PICTURE, rate=5,
        around=burners(4, HOG),
        why="Four programs on two cores take turns with the server and use its caches.",
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
        SLIPWAY, "stops of 60 ms", ("stall",), model=models.public(ANGLE), bodies=LINE, rate=60, around=SHORT_STOPS,
        why="An eighth of the time nothing runs; who comes then waits up to 60 ms for a model of 1 ms.",
    ),
    Plant(
        SLIPWAY, "collects garbage itself", ("stall",), code={"kind": "collects", "every": 40, "objects": 2_500_000},
        rate=40,
        why="A collection of 0.2 s once a second stops every thread.",
    ),
    Plant(
        SLIPWAY, "loads new weights", ("stall",), code={"kind": "reloads", "every_s": 1.6, "for_s": 0.4}, rate=30,
        why="Everything waits 0.4 s every 2 s. The lock is held by no request, so more workers would not help.",
    ),
    Plant(
        SLIPWAY, "session with 16 threads", ("threads",),
        code={"kind": "session", "model": DETECTOR, "side": 192, "threads": 16}, rate=2.5,
        why="8 ms with two threads, 100 ms with 16 that spin on two cores.",
    ),
    Plant(
        SLIPWAY, "thread that polls", ("threads", "serial"), code={"kind": "spinner", "seconds": 0.004}, rate=30,
        why="A second thread takes the interpreter at every chance: too many threads, or one lock.",
    ),
    Plant(
        SLIPWAY, "one text in ten is long", ("input_size",), code={"kind": "distance"}, rate=12,
        bodies=models.json_texts(*[10] * 9, 180),
        why="180 words take 200 times the work of ten.",
    ),
    Plant(
        SLIPWAY, "one sentence in eight is a page", ("input_size", "padding"), model=models.minilm, rate=12,
        bodies=models.texts(*[5] * 7, 200),
        why="The encoder's time grows with the tokens; short texts that share a batch are padded.",
    ),
    Plant(
        SLIPWAY, "compiles for each new length", ("cold_start",), code={"kind": "compiles", "seconds": 0.3}, rate=15,
        bodies=models.json_values(8, 16, 24, 32, 48, 64, 96, 128), warmup_s=0.0,
        why="The first request of each of eight lengths waits 0.3 s, all within the first seconds.",
    ),
    Plant(
        SLIPWAY, "trains at its first request", ("cold_start",), code={"kind": "forest", "trees": 400, "lazy": True},
        rate=12, warmup_s=0.0,
        why="The import and the training, 2 s, wait for the first request, and all others wait for it.",
    ),
    Plant(
        SLIPWAY, "handshake of 20 ms", ("connections", "network_latency"), network=TINY, rate=20,
        around=proxied("handshake", 0.02),
        why="A balancer closes each connection, and a new one takes 20 ms: kept ones, or a nearer one, would help.",
    ),
    Plant(
        SLIPWAY, "second client with 16 rows", ("other_traffic",), model=models.public(FILE_TYPE), bodies=HEAD, rate=8,
        other_body=HEADS, other_rate=6.0, serve=ONE,
        why="Its batches of 16 rows take the one instance for most of the time; ours would be alone at 8/s.",
    ),
    Plant(
        SLIPWAY, "second client with pages", ("other_traffic",), model=models.minilm, bodies=models.texts(6), rate=8,
        other_body=models.texts(190), other_rate=10.0, serve=ONE,
        why="Our sentences wait behind its pages.",
    ),
    Plant(
        SLIPWAY, "client among burners", ("generator",), network=TINY, rate=150, client=STARVED,
        around=crowded_client(3),
        why="The server has a core to itself; the client shares its own with three burners and sends late.",
    ),
    Plant(
        SLIPWAY, "locust at 5,500/s", ("generator",), network=TINY, rate=5_500, options=("--engine", "locust"),
        why="One process of locust sends 4,000/s at most, and the server takes twice as many.",
    ),
    Plant(
        SLIPWAY, "lock on a file, and 2 ms of jitter", ("serial",), code={"kind": "device", "seconds": 0.03}, rate=22,
        serve=("--instances", "4"), around=proxied("jitter", 0.002),
        why="The lock adds 30 ms and the queue before it; the network adds 2 ms.",
    ),
    Plant(
        SLIPWAY, "printed numbers, and stops of 250 ms", ("stall",), network=FLAT, bodies=models.wordy(2, 10_000),
        rate=12, around=stopping(1.5, 0.25),
        why="Parsing takes some milliseconds of all requests, a stop a quarter of a second of every seventh.",
    ),
    Plant(
        SLIPWAY, "quota, and a timer of 10 ms", ("cpu_quota",), model=models.public(OBJECTS), bodies=PICTURE, rate=4,
        serve=("--max-queue-delay-us", "10000"), around=quota(0.25, 50_000),
        why="The quota adds a hundred milliseconds, the timer ten.",
    ),
    Plant(
        SLIPWAY, "overload through a closing proxy", ("capacity",), code={"kind": "computes", "seconds": 0.02},
        rate=120, serve=("--script-workers", "2"), around=proxied("close", 0.0),
        why="The queue grows to seconds; new connections cost a fraction of a millisecond.",
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
        SLIPWAY, "window in the script", ("batch_timer",), code={"kind": "window", "for_s": 0.06, "size": 4}, rate=14,
        serve=("--instances", "8"),
        why="Nothing is computed; up to 60 ms pass until four have come, which is rare at 14/s.",
    ),
    Plant(
        SLIPWAY, "compressed JSON", ("codec",), network=LONG, bodies=models.gzipped(models.nested(6, 12_000)), rate=6,
        options=("--header", "Content-Encoding: gzip"),
        why="72,000 numbers are expanded and read, for a product of a fraction of a millisecond.",
    ),
    Plant(
        SLIPWAY, "sound through a slow upload", ("bandwidth",), model=models.public(MUSIC), bodies=SOUND, rate=5,
        options=ARRAYS, around=proxied("uploads", 1.1e6),
        why="175 kB take 160 ms of the way up, which is busy for 80 % of the time; the model takes a fifth of that.",
    ),
    Plant(
        SLIPWAY, "proxy that flushes every 40 ms", ("network_latency",), network=LEAST, rate=20,
        around=proxied("flush", 0.04),
        why="Each way waits for the next flush, 40 ms together on average, for a server that answers in one.",
    ),
    Plant(
        SLIPWAY, "three answers a connection", ("connections",), network=LEAST, rate=15, around=proxied("few", 0.035),
        why="Every third request needs a new connection and waits 35 ms for it; on a kept one a request takes two.",
    ),
    Plant(
        SLIPWAY, "recurrent layer", ("model_size", "hardware"), rate=5, bodies=models.npy((1, 64)),
        model=partial(slipway.recurrent, hidden=2_000, steps=20),
        why="48 MB of weights are read 20 times, once for each step.",
    ),
    Plant(
        SLIPWAY, "short texts beside a long one", ("padding", "serial", "capacity"), users=8, bodies=TEXTS,
        model=partial(slipway.attention, width=256, longest=700),
        why="In a batch of eight, seven texts of 16 tokens are padded to 700: six sevenths of the work is padding.",
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
        SLIPWAY, "stops at irregular times", ("stall",), network=LEAST, rate=40,
        around=stopping_at_random(0.9, 0.05, 0.4),
        why="0.2 s of each 1.1 s nothing runs; who comes then waits up to 0.4 s for a model of 0.05 ms.",
    ),
    Plant(
        SLIPWAY, "client with a quota", ("generator",), network=LEAST, rate=500, client=IN_GROUP,
        around=client_quota(0.2),
        why="The client gets 20 ms of each 100, in which it cannot send 50 requests on time; the server is free.",
    ),
    Plant(
        SLIPWAY, "quota with a sidecar in it", ("cpu_quota", "neighbour"), code=HASH_10, rate=12,
        around=quota(0.6, burns=1),
        why="The sidecar takes what the server leaves of 60 ms, and both are throttled for 40 of 100.",
    ),
    Plant(
        SLIPWAY, "stops of 4 ms", ITS_OWN, code=HASH_45, rate=6, around=stopping(0.3, 0.004),
        why="One request in ten meets a stop, and 4 ms are a tenth of its own 45.",
    ),
    Plant(
        SLIPWAY, "quota that is never used up", ITS_OWN, code=HASH_20, rate=6, around=quota(1.5),
        why="A period allows 150 ms, and six requests a second need 13 of them on average.",
    ),
)  # fmt: skip
ON_SLIPWAY = (*OLDEST, *ONCE_HELD_OUT)
