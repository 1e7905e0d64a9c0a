"""The held-out plants: models, magnitudes and mechanisms that the rules of the verdict were not made with.

They were written without a look at the rules. ``why`` says for each, before its first run, which first causes a fair
judge accepts. Where the time of the model itself is most of a latency that nothing adds to, ``none``, ``hardware`` and
``model_size`` are all fair (``ITS_OWN``): the model may be called fast enough, or too slow for its machine. After the
rules are mended for their misses, these plants are tuned ones, and new ones have to be written.
"""

from __future__ import annotations

from . import models
from .around import HOG, burners, coming_and_going, crowded_client, one_core, proxied, quota, stopping
from .models import ANGLE, DETECTOR, FILE_TYPE, OBJECTS, READER
from .plant import FASTAPI, FLASK, LITSERVE, MLSERVER, SLIPWAY, Plant

ITS_OWN = ("none", "hardware", "model_size")
TINY, WIDE, LARGE = (32, 32, 1), (10_000, 16, 1), (5_000, 5_000, 2)
"""Dense networks: inputs, hidden size, layers. The last one has 200 MB of weights."""
LINE, PAGE = models.npy((1, 3, 48, 192)), models.npy((1, 3, 192, 192))
PICTURE, HEAD = models.npy((1, 3, 320, 320)), models.npy((1, 2_048), dtype="int32")
HEADS = models.npy((16, 2_048), dtype="int32")
LINK = "tbf rate 20mbit burst 16kb latency 900ms"
ONE = ("--instances", "1", "--threads", "1")
SHORT_STOPS = stopping(0.4, 0.06)
STARVED = ("chrt", "--other", "0", "taskset", "-c", "0")
"""Beside the burners of ``crowded_client``."""

AT_EASE = (
    Plant(
        SLIPWAY, "angle of a line, 20/s", ITS_OWN, model=models.public(ANGLE), bodies=LINE, rate=20,
        why="A real model of 1 ms with a fiftieth of the load that it can take: nothing adds to its own time.",
    ),
    Plant(
        SLIPWAY, "angle of a line, 150/s", ITS_OWN, model=models.public(ANGLE), bodies=LINE, rate=150,
        why="The same with a fifth of that load: waits are rare.",
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
        FLASK, "random forest, 8/s", ITS_OWN, code={"kind": "forest", "trees": 100}, rate=8,
        why="As on Slipway: the forest's own 5 ms.",
    ),
    Plant(
        FASTAPI, "a sum, 50/s", ("none",), code={"kind": "light"}, rate=50,
        why="A millisecond of FastAPI itself; nobody would call it slow.",
    ),
    Plant(LITSERVE, "2 ms, 12/s", ("none",), "base=0.002", rate=12, why="Some milliseconds of LitServe itself."),
    Plant(MLSERVER, "2 ms, 10/s", ("none",), "base=0.002", rate=10, why="Some milliseconds of MLServer itself."),
)  # fmt: skip
ON_SLIPWAY = (
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
        SLIPWAY, "timer of 8 ms", ("batch_timer",), network=(300, 64, 2), rate=40,
        serve=("--max-queue-delay-us", "8000"),
        why="A model of some microseconds waits 8 ms for company.",
    ),
    Plant(
        SLIPWAY, "scores of a line in JSON", ("codec",), model=models.public(READER), rate=3,
        bodies=models.npy((1, 3, 48, 320)),
        why="An answer of 750,000 numbers as JSON, some megabytes, takes longer to write than the line to read.",
    ),
    Plant(
        SLIPWAY, "printed numbers, one a line", ("codec",), network=WIDE, bodies=models.wordy(4, 10_000), rate=12,
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
        SLIPWAY, "200 MB of dense weights", ("model_size",), network=LARGE, rate=5,
        why="One row reads 200 MB of weights: the memory decides, and smaller weights would help in proportion.",
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
)  # fmt: skip
ON_OTHERS = (
    Plant(
        FLASK, "one thread calls a service", ("serial",), rate=25,
        code={"kind": "downstream", "seconds": 0.025, "threaded": False, "keep": False},
        why="Flask without threads waits 25 ms for a service: 62 % busy while all cores idle.",
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
        LITSERVE, "timer of 40 ms", ("batch_timer",), "base=0.002 timer=0.04", rate=10,
        why="A batch that never fills waits 40 ms.",
    ),
    Plant(
        FLASK, "answers 50,000 numbers", ("codec",), code={"kind": "floats", "count": 50_000}, rate=6,
        why="The app computes nothing; the json module writes a megabyte.",
    ),
    Plant(
        FASTAPI, "60,000 numbers, each checked", ("codec",), code={"kind": "light", "how": "validated"},
        numbers=(60_000,), rate=6, why="Parsing and checking half a megabyte of JSON is all that happens.",
    ),
    Plant(
        FLASK, "stops of 60 ms", ("stall",), code={"kind": "light"}, rate=50, around=SHORT_STOPS,
        why="As on Slipway.",
    ),
    Plant(
        FASTAPI, "collects garbage itself", ("stall",),
        code={"kind": "collects", "every": 40, "objects": 2_500_000}, rate=40, why="As on Slipway.",
    ),
    Plant(
        FLASK, "quota of a fifth", ("cpu_quota",), code={"kind": "forest", "trees": 200}, rate=8,
        around=quota(0.2), why="20 ms a period, for requests of 10 ms and the server around them.",
    ),
    Plant(
        MLSERVER, "quota of a quarter", ("cpu_quota",), "base=0 spin=0.015", rate=9, around=quota(0.25),
        why="25 ms a period, for requests of 15 ms and the server around them.",
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
        FASTAPI, "one text in ten is long", ("input_size",), code={"kind": "distance"}, rate=12,
        bodies=models.json_texts(*[10] * 9, 180), why="As on Slipway.",
    ),
    Plant(
        FASTAPI, "second client with long texts", ("other_traffic",), code={"kind": "distance"}, rate=10,
        bodies=models.json_texts(12), other_body=models.json_texts(120), other_rate=6.0,
        why="Its texts keep the interpreter busy, and ours wait for it.",
    ),
    Plant(
        FLASK, "20 ms at 70/s", ("capacity", "serial"), code={"kind": "computes", "seconds": 0.02}, rate=70,
        why="One interpreter serves 50/s: too many requests, or one process too few.",
    ),
    Plant(
        LITSERVE, "twice what two workers do", ("capacity",), "base=0 sort=0.025", workers=2, rate=130,
        why="Both cores work all the time.",
    ),
    Plant(
        FASTAPI, "600 kB over 20 Mbit per s", ("bandwidth",), code={"kind": "light"}, numbers=(60_000,), rate=2,
        link=LINK, why="A quarter of a second on the link; parsing takes some milliseconds.",
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
)  # fmt: skip
TWO_AT_ONCE = (
    Plant(
        SLIPWAY, "lock on a file, and 2 ms of jitter", ("serial",), code={"kind": "device", "seconds": 0.03}, rate=22,
        serve=("--instances", "4"), around=proxied("jitter", 0.002),
        why="The lock adds 30 ms and the queue before it; the network adds 2 ms.",
    ),
    Plant(
        SLIPWAY, "printed numbers, and stops of 250 ms", ("stall",), network=WIDE, bodies=models.wordy(2, 10_000),
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
        FLASK, "burners, and an answer of 200 kB", ("neighbour",), code={"kind": "floats", "count": 10_000}, rate=10,
        around=burners(4),
        why="Four burners on two cores cost more than 10 ms of JSON.",
    ),
)  # fmt: skip
HELD_OUT = (*AT_EASE, *ON_SLIPWAY, *ON_OTHERS, *TWO_AT_ONCE)
