"""The held-out plants on Slipway."""

from __future__ import annotations

from functools import partial

from . import models, slipway
from .around import (
    IDLE,
    IN_GROUP,
    burners,
    client_quota,
    crowded_client,
    later,
    outranked,
    proxied,
    quota,
    stopping,
    stopping_at_random,
)
from .models import MUSIC, NUDITY, OBJECTS, READER, SPEECH
from .plant import ITS_OWN, SLIPWAY, Plant

TINY, FLAT, SOLID = (48, 16, 1), (12_000, 8, 1), (300, 3_000, 5)
"""Dense networks: inputs, hidden size, layers."""
PICTURE, PHOTO, SOUND = models.npy((1, 3, 320, 320)), models.npy((1, 224, 224, 3)), models.npy((1, 43_844, 1))
ARRAYS = ("--header", "Accept: application/x-npz")
LINK = "tbf rate 12mbit burst 16kb latency 1500ms"
ONE = ("--instances", "1", "--threads", "1")
HASH_10, HASH_20, HASH_45 = ({"kind": "hashes", "rounds": rounds} for rounds in (20, 40, 90))
LOG = {"kind": "logs", "seconds": 0.03}
REPORTS = {"kind": "reports", "seconds": 0.004, "report_s": 0.15}
FOUR, EIGHT = ("--instances", "4"), ("--instances", "8")
NICED = ("chrt", "--other", "0", "nice", "-n", "5", "taskset", "-c", "0")
TEXTS = models.token_ids(*[16] * 7, 700)

AT_EASE = (
    Plant(
        SLIPWAY, "speech, 25/s", ITS_OWN, model=models.public(SPEECH), bodies=models.speech, rate=25,
        why="A model of a millisecond, at 3 % of one core: nothing adds to its own time.",
    ),
    Plant(
        SLIPWAY, "photographs, 5/s", ITS_OWN, model=models.public(NUDITY), bodies=PHOTO, rate=5,
        why="A residual network of 20 to 30 ms, at a tenth of the capacity: 90 % meet an idle server.",
    ),
    Plant(
        SLIPWAY, "burner on the other core", ITS_OWN, model=models.public(MUSIC), bodies=SOUND, serve=ONE, rate=5,
        options=ARRAYS, around=crowded_client(1),
        why="The burner has core 0 and the server core 1. The client runs ahead of the burner. So it harms nobody.",
    ),
    Plant(
        SLIPWAY, "burners that only idle", ITS_OWN, code=HASH_10, rate=10, around=burners(2, IDLE),
        why="SCHED_IDLE programs leave a core as soon as the server wants it: 0.3 % of its share at most.",
    ),
    Plant(
        SLIPWAY, "timer of 0.3 ms", ITS_OWN, network=SOLID, rate=8, serve=("--max-queue-delay-us", "300"),
        why="The timer is a fiftieth of the model's own time.",
    ),
    Plant(
        SLIPWAY, "stops of 4 ms", ITS_OWN, code=HASH_45, rate=6, around=stopping(0.3, 0.004),
        why="One request in ten meets a stop, and 4 ms are a tenth of its own 45.",
    ),
    Plant(
        SLIPWAY, "two slow firsts of 1,200", ("none",), code={"kind": "parts", "parts": 2, "seconds": 0.015}, rate=100,
        bodies=models.json_values(3, 4), warmup_s=0.0,
        why="Two first requests and three behind them wait 15 ms: 0.4 %, so p99 is a request at ease.",
    ),
    Plant(
        SLIPWAY, "quota that is never used up", ITS_OWN, code=HASH_20, rate=6, around=quota(1.5),
        why="A period allows 150 ms, and six requests a second need 13 of them on average.",
    ),
    Plant(
        SLIPWAY, "uneven arrivals at 2 %", ("none",), network=TINY, rate=60, options=("--arrivals", "gamma:3"),
        why="Clusters of some requests of 0.3 ms each: no queue that anybody would notice.",
    ),
    Plant(
        SLIPWAY, "calls side by side", ("none",), code={"kind": "downstream", "seconds": 0.045}, rate=20,
        serve=("--instances", "16"),
        why="One request in flight on average and 16 threads: each waits for its own call alone.",
    ),
)  # fmt: skip
CAPACITY = (
    Plant(
        SLIPWAY, "clustered arrivals", ("capacity",), code=HASH_20, rate=60, serve=("--script-workers", "2"),
        options=("--arrivals", "gamma:4"),
        why="60/s of 22 ms are two thirds of two cores, in clusters of a dozen: those wait for 100 ms and more.",
    ),
    Plant(
        SLIPWAY, "40 callers, one row a run", ("capacity",), network=SOLID, users=40, serve=("--max-batch-size", "1"),
        why="Both cores work all the time, and each caller waits for 39 others.",
    ),
    Plant(
        SLIPWAY, "program for each request, too many", ("capacity",), code={"kind": "child", "seconds": 0.03}, rate=75,
        serve=EIGHT, why="75/s of 40 ms need three cores, and there are two.",
    ),
)  # fmt: skip
SERIAL = (
    Plant(
        SLIPWAY, "log that nobody reads fast", ("serial",), code=LOG, rate=24, serve=EIGHT,
        why="The pipe takes one line in 30 ms: 72 % busy while all cores idle; p99 waits for five lines.",
    ),
    Plant(
        SLIPWAY, "calls again behind a lock", ("serial",), rate=22, serve=("--instances", "6"),
        code={"kind": "retries", "seconds": 0.018, "wait_s": 0.03},
        why="The one connection is held for 18, 18 and 66 ms, 34 on average: 75 % busy while all cores idle.",
    ),
    Plant(
        SLIPWAY, "pool of one process", ("serial",), code={"kind": "pool", "rounds": 40}, rate=32,
        serve=("--instances", "6"),
        why="One process computes 22 ms for each: 70 % busy, and the other core idles.",
    ),
    Plant(
        SLIPWAY, "one worker, five callers", ("serial",), code={"kind": "downstream", "seconds": 0.035}, users=5,
        serve=("--script-workers", "1"), why="Four callers wait while the one worker waits for a service.",
    ),
    Plant(
        SLIPWAY, "sorts with the interpreter's lock", ("serial", "capacity"), code={"kind": "sorts", "thousands": 100},
        rate=34, serve=FOUR,
        why="Four threads, but the lock lets one sort at a time: 70 % busy. It is also all that one process can do.",
    ),
    Plant(
        SLIPWAY, "one instance on one core", ("serial", "capacity"), model=models.public(NUDITY), bodies=PHOTO, rate=25,
        serve=ONE, why="One instance on one thread is busy with 28 ms for 70 % of the time, and the other core idles.",
    ),
)  # fmt: skip
TIMERS = (
    Plant(
        SLIPWAY, "timer of 40 ms, two callers", ("batch_timer",), network=(500, 128, 3), users=2,
        serve=("--max-queue-delay-us", "40000"),
        why="A model of 0.1 ms waits 40 ms for more rows than two callers can send.",
    ),
    Plant(
        SLIPWAY, "window in the script", ("batch_timer",), code={"kind": "window", "for_s": 0.06, "size": 4}, rate=14,
        serve=EIGHT, why="Nothing is computed; up to 60 ms pass until four have come, which is rare at 14/s.",
    ),
    Plant(
        SLIPWAY, "timer of 150 ms, photographs", ("batch_timer",), model=models.public(NUDITY), bodies=PHOTO, rate=5,
        serve=("--max-queue-delay-us", "150000"),
        why="150 ms of waiting for a run of some tens of milliseconds.",
    ),
)  # fmt: skip
CODECS = (
    Plant(
        SLIPWAY, "rows in CSV", ("codec",), network=FLAT, bodies=models.csv(8, 12_000), rate=5,
        why="96,000 numbers, 1.9 MB of text, are read for a product of a fraction of a millisecond.",
    ),
    Plant(
        SLIPWAY, "compressed JSON", ("codec",), network=FLAT, bodies=models.gzipped(models.nested(6, 12_000)), rate=6,
        options=("--header", "Content-Encoding: gzip"),
        why="72,000 numbers are expanded and read, for a product of a fraction of a millisecond.",
    ),
    Plant(
        SLIPWAY, "answer compressed", ("codec",), code={"kind": "floats", "count": 40_000}, rate=6,
        options=("--header", "Accept-Encoding: gzip"),
        why="The script computes nothing. 800 kB of JSON are written and compressed, tens of milliseconds.",
    ),
)  # fmt: skip
NETWORKS = (
    Plant(
        SLIPWAY, "sound through a slow upload", ("bandwidth",), model=models.public(MUSIC), bodies=SOUND, rate=5,
        options=ARRAYS, around=proxied("uploads", 1.1e6),
        why="175 kB take 160 ms of the way up, which is busy for 80 % of the time; the model takes a fifth of that.",
    ),
    Plant(
        SLIPWAY, "rows over 12 Mbit per s", ("bandwidth",), network=(25_000, 8, 1), bodies=models.npy((1, 25_000)),
        rate=7,
        link=LINK, why="100 kB take 67 ms of a link that is busy for half of the time; the model takes 0.1 ms.",
    ),
    Plant(
        SLIPWAY, "answers over 12 Mbit per s", ("bandwidth",), code={"kind": "floats", "count": 8_000}, rate=6,
        link=LINK, why="160 kB of answer take 107 ms of the link, 64 % busy; writing them takes some milliseconds.",
    ),
    Plant(
        SLIPWAY, "proxy that flushes every 40 ms", ("network_latency",), network=TINY, rate=20,
        around=proxied("flush", 0.04),
        why="Each way waits for the next flush, 40 ms together on average, for a server that answers in one.",
    ),
    Plant(
        SLIPWAY, "one caller, 25 ms away", ("network_latency",), code={"kind": "light"}, users=1,
        around=proxied("delay", 0.025), why="50 ms on the way and two in the server.",
    ),
    Plant(
        SLIPWAY, "three answers a connection", ("connections",), network=TINY, rate=15, around=proxied("few", 0.035),
        why="Every third request needs a new connection and waits 35 ms for it; on a kept one a request takes two.",
    ),
    Plant(
        SLIPWAY, "handshake of 9 ms", ("connections", "network_latency"), model=models.public(SPEECH),
        bodies=models.speech,
        rate=30, around=proxied("handshake", 0.009),
        why="No connection is kept, and a new one takes 9 ms, for a model of one.",
    ),
)  # fmt: skip
ITS_WORK = (
    Plant(
        SLIPWAY, "recurrent layer", ("model_size", "hardware"), rate=5, bodies=models.npy((1, 64)),
        model=partial(slipway.recurrent, hidden=2_000, steps=20),
        why="48 MB of weights are read 20 times, once for each step.",
    ),
    Plant(
        SLIPWAY, "password hash", ("hardware",), code=HASH_45, rate=6,
        why="45 ms of native code on one thread, without weights, at an eighth of the capacity.",
    ),
    Plant(
        SLIPWAY, "notes of two seconds", ("hardware", "model_size"), model=models.public(MUSIC), bodies=SOUND, rate=5,
        options=ARRAYS,
        why="Tens of milliseconds of convolutions with 200 kB of weights; a smaller network is as fair an advice.",
    ),
    Plant(
        SLIPWAY, "one matrix in ten is large", ("input_size",), code={"kind": "solves"}, rate=8,
        bodies=models.json_values(*[20] * 9, 450), why="450 numbers take thousands of times the work of 20.",
    ),
    Plant(
        SLIPWAY, "one line in eight is long", ("input_size",), model=models.public(READER), rate=6,
        bodies=models.npy(*[(1, 3, 48, 32)] * 7, (1, 3, 48, 960)), options=("--header", "Accept: application/x-npy"),
        why="A line of 960 columns takes 30 times the work of one of 32.",
    ),
    Plant(
        SLIPWAY, "one request in ten has 40 rows", ("input_size",), network=SOLID, rate=8,
        bodies=models.npy(*[(1, 300)] * 9, (40, 300)),
        why="40 rows take several times the work of one, and they are 10 %.",
    ),
    Plant(
        SLIPWAY, "sessions of 10 threads in two workers", ("threads",), rate=5, serve=("--script-workers", "2"),
        code={"kind": "session", "model": OBJECTS, "side": 320, "threads": 10},
        why="Ten threads that spin take turns on two cores; one session of two threads takes 20 ms.",
    ),
    Plant(
        SLIPWAY, "short texts beside a long one", ("padding", "serial", "capacity"), users=8, bodies=TEXTS,
        model=partial(slipway.attention, width=256, longest=700),
        why="In a batch of eight, seven texts of 16 tokens are padded to 700: six sevenths of the work is padding.",
    ),
    Plant(
        SLIPWAY, "texts of five lengths, 12 callers", ("padding", "serial", "capacity"), users=12,
        bodies=models.token_ids(10, 20, 40, 80, 640), model=partial(slipway.attention, width=256, longest=640),
        why="Batches of eight are padded to 640 where their mean is 158: three quarters of the work is padding.",
    ),
)  # fmt: skip
MACHINE = (
    Plant(
        SLIPWAY, "quota in long periods", ("cpu_quota",), code=HASH_20, rate=10, around=quota(0.3, 500_000),
        why="10/s of 25 ms use 83 % of the quota: many periods end with a stop of up to 350 ms.",
    ),
    Plant(
        SLIPWAY, "quota, three callers", ("cpu_quota",), code=HASH_10, users=3, around=quota(0.4),
        why="Three callers use up 40 ms of each period in 20 to 40 ms, and then wait 60.",
    ),
    Plant(
        SLIPWAY, "quota of a fifth, photographs", ("cpu_quota",), model=models.public(NUDITY), bodies=PHOTO, rate=5,
        around=quota(0.22), why="A run needs 28 ms of CPU time and a period has 22: each is throttled at least once.",
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
        SLIPWAY, "stops at irregular times", ("stall",), network=TINY, rate=40,
        around=stopping_at_random(0.9, 0.05, 0.4),
        why="0.2 s of each 1.1 s nothing runs; who comes then waits up to 0.4 s for a model of 0.05 ms.",
    ),
    Plant(
        SLIPWAY, "store that compacts itself", ("stall",), rate=30, serve=EIGHT,
        code={"kind": "compacts", "rate": 0.8, "low_s": 0.1, "high_s": 0.45},
        why="0.3 s of each 1.5 s all wait together, for nothing that another request holds.",
    ),
    Plant(
        SLIPWAY, "heap that grows", ("stall",),
        code={"kind": "leaks", "objects": 4_000, "every": 25, "already": 1_500_000},
        rate=30, why="A collection of 0.1 s and growing stops every thread each 0.8 s, an eighth of the time.",
    ),
    Plant(
        SLIPWAY, "loads four parts", ("cold_start",), code={"kind": "parts", "parts": 4, "seconds": 0.5}, rate=15,
        bodies=models.json_values(4, 5, 6, 7), warmup_s=0.0,
        why="The first requests of four parts wait 0.5 s each, and 30 others behind them, of 180.",
    ),
    Plant(
        SLIPWAY, "imports torch", ("cold_start",), code={"kind": "torch", "side": 100, "rows": 1, "threads": 1},
        rate=15,
        warmup_s=0.0,
        why="The first request imports torch for a second or more, and the others wait; then a layer takes 0.1 ms.",
    ),
    Plant(
        SLIPWAY, "client with reports", ("other_traffic",), code=REPORTS, rate=15, serve=FOUR,
        other_body=models.json_fields(report=1), other_rate=2.5,
        why="The reports hold the lock for 38 % of the time, 150 ms each; without them requests take 5 ms.",
    ),
    Plant(
        SLIPWAY, "client that sends 12 at once", ("other_traffic",), code={"kind": "downstream", "seconds": 0.02},
        serve=("--script-workers", "1"), rate=8, other_rate=1.0, other_burst=12,
        why="Its twelve take the one worker for 240 ms of each second; ours alone would use 16 %.",
    ),
    Plant(
        SLIPWAY, "client with batches of photographs", ("other_traffic",), model=models.public(NUDITY), bodies=PHOTO,
        rate=5,
        serve=ONE, other_body=models.npy((6, 224, 224, 3)), other_rate=1.5,
        why="Its six photographs take the one instance for most of each second; ours alone would use a quarter.",
    ),
    Plant(
        SLIPWAY, "client with a quota", ("generator",), network=TINY, rate=500, client=IN_GROUP,
        around=client_quota(0.2),
        why="The client gets 20 ms of each 100, in which it cannot send 50 requests on time; the server is free.",
    ),
    Plant(
        SLIPWAY, "nice client beside a burner", ("generator",), network=TINY, rate=300, client=NICED,
        around=crowded_client(1),
        why="The client has a quarter of its core, in turns of some milliseconds; the server has a core to itself.",
    ),
    Plant(
        SLIPWAY, "locust with 300 callers", ("generator",), network=TINY, users=300, options=("--engine", "locust"),
        why="300 callers keep the one process of locust busy all the time, and the server takes twice as many.",
    ),
)  # fmt: skip
TWO_AT_ONCE = (
    Plant(
        SLIPWAY, "slow log, 8 ms away", ("serial",), code=LOG, rate=24, serve=EIGHT, around=proxied("delay", 0.008),
        why="The queue at the log adds 150 ms to the slow ones, the way 16 to all.",
    ),
    Plant(
        SLIPWAY, "timer of 20 ms, and stops of 300 ms", ("stall",), network=TINY, rate=30,
        serve=("--max-queue-delay-us", "20000"), around=stopping(1.5, 0.3),
        why="The timer adds 20 ms to all requests, a stop up to 300 to every sixth.",
    ),
    Plant(
        SLIPWAY, "quota with a sidecar in it", ("cpu_quota", "neighbour"), code=HASH_10, rate=12,
        around=quota(0.6, burns=1),
        why="The sidecar takes what the server leaves of 60 ms, and both are throttled for 40 of 100.",
    ),
)  # fmt: skip
ON_SLIPWAY = (*AT_EASE, *CAPACITY, *SERIAL, *TIMERS, *CODECS, *NETWORKS, *ITS_WORK, *MACHINE, *TWO_AT_ONCE)
