"""The tuned plants: those that the rules of the verdict were made with, or mended for after a first measurement."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from . import slipway
from .around import burners, crowded, on_core, proxied, quota, stopping
from .plant import FASTAPI, LITSERVE, MLSERVER, SLIPWAY, Plant

LONG_TIMER = ("--max-queue-delay-us", "60000")
SLOW_LINK = "tbf rate 8mbit burst 8kb latency 800ms"
SMALL, WIDE, HEAVY = (64, 64, 2), (20_000, 16, 1), (256, 2_000, 4)
MIDDLE, BROAD, DEEP = (128, 256, 3), (6_000, 64, 1), (256, 2_500, 10)
"""Dense networks: inputs, hidden size, layers."""

ON_FASTAPI = (
    Plant(FASTAPI, "nothing", ("none",)),
    Plant(FASTAPI, "overload", ("capacity",), "spin=0.02", rate=80),
    Plant(FASTAPI, "lock around a sleep", ("serial",), "lock=0.02", rate=35),
    Plant(FASTAPI, "one worker blocks", ("serial",), "block=0.02", rate=35),
    Plant(FASTAPI, "lock, saturated", ("serial",), "lock=0.02", rate=70),
    Plant(FASTAPI, "batch timer", ("batch_timer",), "timer=0.03", rate=20),
    Plant(FASTAPI, "long sleep in parallel", ("none",), "sleep=0.05", rate=20),
    Plant(FASTAPI, "spin", ("hardware",), "spin=0.03", rate=8),
    Plant(FASTAPI, "large JSON body", ("codec",), numbers=(60_000,), rate=8),
    Plant(FASTAPI, "large JSON reply", ("codec",), "reply=60000", rate=8),
    Plant(FASTAPI, "weights", ("model_size",), "base=0 weights=400000000", rate=5),
    Plant(FASTAPI, "long inputs", ("input_size",), "length=0.000004", numbers=(*[64] * 7, 20_000), rate=15),
    Plant(FASTAPI, "threads", ("threads",), "base=0 threads=12", rate=4),
    Plant(FASTAPI, "cold start", ("cold_start",), "cold=1.5", warmup_s=0.0),
    Plant(FASTAPI, "connections closed", ("connections",), "close"),
    Plant(FASTAPI, "pauses of the event loop", ("stall",), "pauses=2"),
    Plant(FASTAPI, "SIGSTOP", ("stall",), around=stopping(2.0, 0.3)),
    Plant(FASTAPI, "CPU quota", ("cpu_quota",), "spin=0.01", rate=20, around=quota(0.25)),
    Plant(FASTAPI, "neighbours", ("neighbour",), around=burners(4)),
    Plant(FASTAPI, "slow link", ("bandwidth",), numbers=(4_000,), rate=10, around=proxied("rate", 1e6)),
    Plant(FASTAPI, "far away", ("network_latency",), rate=20, around=proxied("delay", 0.02)),
    Plant(FASTAPI, "another client", ("other_traffic",), "lock=0.01", rate=15, other_rate=55.0),
    Plant(FASTAPI, "nothing, other model", ("none",), "base=0.001 sort=0.002", numbers=(200,), rate=70),
    Plant(FASTAPI, "nothing, closed loop", ("none",), "base=0.004", users=1),
    Plant(FASTAPI, "twice the capacity", ("capacity",), "base=0.03", rate=60),
    Plant(FASTAPI, "lock of 50 ms", ("serial",), "base=0.001 lock=0.05", rate=15),
    Plant(FASTAPI, "lock, closed loop", ("serial",), "base=0.001 lock=0.03", users=6),
    Plant(FASTAPI, "timer of 80 ms", ("batch_timer",), "timer=0.08", rate=12),
    Plant(FASTAPI, "sleep of 120 ms", ("none",), "sleep=0.12", rate=10),
    Plant(FASTAPI, "sort of 60 ms", ("hardware",), "base=0 sort=0.06", rate=5),
    Plant(FASTAPI, "body of 300 kB", ("codec",), "base=0.001", numbers=(33_000,), rate=10),
    Plant(FASTAPI, "reply of 1.5 MB", ("codec",), "base=0.001 reply=80000", rate=4),
    Plant(FASTAPI, "weights of 800 MB", ("model_size",), "base=0 weights=800000000", rate=3),
    Plant(FASTAPI, "one input in twenty", ("input_size",), "length=0.000002", numbers=(*[100] * 19, 50_000), rate=12),
    Plant(FASTAPI, "8 threads", ("threads",), "base=0.001 threads=8", rate=5),
    Plant(FASTAPI, "cold start of 4 s", ("cold_start",), "cold=4", rate=25, warmup_s=0.0),
    Plant(FASTAPI, "closed connections, slow model", ("connections",), "base=0.006 close", rate=20),
    Plant(FASTAPI, "garbage collection", ("stall",), "garbage=4000000", rate=60),
    Plant(FASTAPI, "SIGSTOP of 150 ms", ("stall",), rate=60, around=stopping(1.2, 0.15)),
    Plant(FASTAPI, "quota of half a core", ("cpu_quota",), "spin=0.02", rate=18, around=quota(0.5)),
    Plant(FASTAPI, "2 burners", ("neighbour",), "base=0.008", rate=25, around=burners(2)),
    Plant(FASTAPI, "link of 8 Mbit per s", ("bandwidth",), numbers=(6_000,), rate=5, link=SLOW_LINK),
    Plant(FASTAPI, "35 ms away", ("network_latency",), rate=15, around=proxied("delay", 0.035)),
    Plant(FASTAPI, "another client, more", ("other_traffic",), "base=0.002 lock=0.015", rate=10, other_rate=45.0),
)  # fmt: skip
ON_SLIPWAY = (
    Plant(SLIPWAY, "nothing", ("none",), network=SMALL, rate=100),
    Plant(SLIPWAY, "overload", ("capacity",), network=HEAVY, serve=("--max-batch-size", "1"), rate=1_200),
    Plant(SLIPWAY, "script with a lock", ("serial",), "base=0 lock=0.02", rate=35),
    Plant(SLIPWAY, "one worker", ("serial",), "base=0 sleep=0.02", serve=("--script-workers", "1"), rate=35),
    Plant(SLIPWAY, "batch timer", ("batch_timer",), network=SMALL, serve=("--max-queue-delay-us", "30000"), rate=20),
    Plant(SLIPWAY, "heavy model", ("hardware", "model_size"), network=(256, 4_000, 8), rate=5),
    Plant(SLIPWAY, "large JSON body", ("codec",), network=WIDE, rate=20),
    Plant(SLIPWAY, "SIGSTOP", ("stall",), network=SMALL, around=stopping(2.0, 0.3)),
    Plant(SLIPWAY, "CPU quota", ("cpu_quota",), network=HEAVY, around=quota(0.05)),
    Plant(SLIPWAY, "neighbours", ("neighbour",), network=HEAVY, rate=30, around=burners(4)),
    Plant(SLIPWAY, "slow link", ("bandwidth",), network=WIDE, rate=2, around=proxied("rate", 2e6)),
    Plant(SLIPWAY, "far away", ("network_latency",), network=SMALL, rate=20, around=proxied("delay", 0.02)),
    Plant(SLIPWAY, "another client", ("other_traffic",), "base=0 lock=0.01", rate=15, other_rate=60.0),
    Plant(SLIPWAY, "a script that computes", ("hardware",), "base=0 sort=0.04", rate=8),
    Plant(SLIPWAY, "long inputs", ("input_size",), "length=0.000004", numbers=(*[64] * 7, 20_000), rate=15),
    Plant(SLIPWAY, "cold start", ("cold_start",), "cold=1.5", warmup_s=0.0),
    Plant(SLIPWAY, "threads", ("threads",), "base=0 threads=12", rate=4),
    Plant(SLIPWAY, "connections closed", ("connections",), network=SMALL, around=proxied("close", 0.0)),
    Plant(SLIPWAY, "garbage collection", ("stall",), "garbage=3000000"),
    Plant(SLIPWAY, "nothing, other model", ("none",), network=MIDDLE, rate=60),
    Plant(SLIPWAY, "nothing, a script", ("none",), "base=0.004", rate=40),
    Plant(SLIPWAY, "script, overload", ("capacity",), "base=0 sort=0.02", rate=160),
    Plant(SLIPWAY, "lock of 40 ms", ("serial",), "base=0.001 lock=0.04", rate=18),
    Plant(SLIPWAY, "timer of 60 ms", ("batch_timer",), network=MIDDLE, serve=LONG_TIMER, rate=10),
    Plant(SLIPWAY, "deep network", ("hardware", "model_size"), network=DEEP, rate=8, rows=4),
    Plant(SLIPWAY, "script of 80 ms", ("hardware",), "base=0 sort=0.08", rate=4),
    Plant(SLIPWAY, "body of 120 kB", ("codec",), network=BROAD, rate=30, rows=2),
    Plant(SLIPWAY, "SIGSTOP of 150 ms", ("stall",), network=MIDDLE, rate=60, around=stopping(1.2, 0.15)),
    Plant(SLIPWAY, "quota of a tenth", ("cpu_quota",), "base=0.008", rate=8, around=quota(0.1)),
    Plant(SLIPWAY, "3 burners", ("neighbour",), "base=0.008", rate=25, around=burners(3)),
    Plant(SLIPWAY, "link of 8 Mbit per s", ("bandwidth",), network=BROAD, rate=4, link=SLOW_LINK),
    Plant(SLIPWAY, "35 ms away", ("network_latency",), network=MIDDLE, rate=15, around=proxied("delay", 0.035)),
    Plant(SLIPWAY, "another client, more", ("other_traffic",), "base=0.001 lock=0.02", rate=10, other_rate=35.0),
    Plant(SLIPWAY, "one input in twenty", ("input_size",), "length=0.000002", numbers=(*[100] * 19, 50_000), rate=12),
    Plant(SLIPWAY, "cold start of 4 s", ("cold_start",), "cold=4", rate=25, warmup_s=0.0),
    Plant(SLIPWAY, "8 threads", ("threads",), "base=0.001 threads=8", rate=5),
    Plant(SLIPWAY, "compute threads", ("threads",), network=DEEP, serve=("--threads", "8"), rate=4, rows=8),
    Plant(SLIPWAY, "garbage, more", ("stall",), "base=0.001 garbage=4000000", rate=60),
    Plant(
        SLIPWAY, "a crowded generator", ("generator",), network=SMALL, rate=60, client=on_core(), around=crowded(3),
    ),
    Plant(SLIPWAY, "weights", ("model_size",), network=(64, 6_000, 4), rate=4),
    Plant(SLIPWAY, "a cache", ("hardware", "none"), network=HEAVY, numbers=tuple(range(64, 104)),
          serve=("--cache-mb", "64")),
)  # fmt: skip
ON_LITSERVE = (
    Plant(LITSERVE, "nothing", ("none",), rate=30),
    Plant(LITSERVE, "overload", ("capacity",), "sort=0.02", workers=2, rate=150),
    Plant(LITSERVE, "one worker sleeps", ("serial",), "base=0 sleep=0.02", rate=35),
    Plant(LITSERVE, "batch timer", ("batch_timer",), "timer=0.05", rate=15),
    Plant(LITSERVE, "spin", ("hardware",), "spin=0.04", rate=6),
    Plant(LITSERVE, "large JSON body", ("codec",), numbers=(60_000,), rate=5),
    Plant(LITSERVE, "long inputs", ("input_size",), "length=0.000004", numbers=(*[64] * 7, 20_000), rate=12),
    Plant(LITSERVE, "threads", ("threads",), "base=0 threads=12", rate=3),
    Plant(LITSERVE, "cold start", ("cold_start",), "cold=1.5", warmup_s=0.0),
    Plant(LITSERVE, "connections closed", ("connections",), "close", rate=30),
    Plant(LITSERVE, "SIGSTOP", ("stall",), rate=30, around=stopping(2.0, 0.3)),
    Plant(LITSERVE, "CPU quota", ("cpu_quota",), "spin=0.01", rate=15, around=quota(0.4)),
    Plant(LITSERVE, "neighbours", ("neighbour",), rate=30, around=burners(4)),
    Plant(LITSERVE, "far away", ("network_latency",), rate=15, around=proxied("delay", 0.03)),
    Plant(LITSERVE, "another client", ("other_traffic",), "sleep=0.01", rate=12, other_rate=45.0),
    Plant(LITSERVE, "nothing, other model", ("none",), "base=0.001 sort=0.003", rate=20),
    Plant(LITSERVE, "overload, more", ("capacity",), "base=0 sort=0.03", workers=2, rate=110),
    Plant(LITSERVE, "one worker, 50 ms", ("serial",), "base=0.001 sleep=0.05", rate=14),
    Plant(LITSERVE, "timer of 120 ms", ("batch_timer",), "timer=0.12", rate=8),
    Plant(LITSERVE, "sort of 70 ms", ("hardware",), "base=0 sort=0.07", rate=4),
    Plant(LITSERVE, "body of 300 kB", ("codec",), "base=0.001", numbers=(33_000,), rate=8),
    Plant(LITSERVE, "8 threads", ("threads",), "base=0.001 threads=8", rate=4),
    Plant(LITSERVE, "SIGSTOP of 250 ms", ("stall",), rate=20, around=stopping(1.5, 0.25)),
    Plant(LITSERVE, "quota of half a core", ("cpu_quota",), "spin=0.02", rate=12, around=quota(0.5)),
    Plant(LITSERVE, "2 burners", ("neighbour",), "base=0.008", rate=20, around=burners(2)),
    Plant(LITSERVE, "35 ms away", ("network_latency",), rate=12, around=proxied("delay", 0.035)),
    Plant(LITSERVE, "another client, more", ("other_traffic",), "base=0.001 sleep=0.015", rate=10, other_rate=40.0),
)  # fmt: skip
ON_MLSERVER = (
    Plant(MLSERVER, "nothing", ("none",), rate=25),
    Plant(MLSERVER, "overload", ("capacity",), "spin=0.02", rate=80),
    Plant(MLSERVER, "lock around a sleep", ("serial",), "base=0 lock=0.02", rate=30),
    Plant(MLSERVER, "batch timer", ("batch_timer",), "timer=0.05", rate=15),
    Plant(MLSERVER, "long sleep in parallel", ("none",), "base=0 sleep=0.05", rate=15),
    Plant(MLSERVER, "spin", ("hardware",), "spin=0.04", rate=6),
    Plant(MLSERVER, "large JSON body", ("codec",), numbers=(60_000,), rate=3),
    Plant(MLSERVER, "weights", ("model_size",), "base=0 weights=400000000", rate=5),
    Plant(MLSERVER, "long inputs", ("input_size",), "length=0.000004", numbers=(*[64] * 7, 10_000), rate=8),
    Plant(MLSERVER, "threads", ("threads",), "base=0 threads=12", rate=3),
    Plant(MLSERVER, "SIGSTOP", ("stall",), rate=20, around=stopping(2.0, 0.3)),
    Plant(MLSERVER, "CPU quota", ("cpu_quota",), "spin=0.01", rate=15, around=quota(0.3)),
    Plant(MLSERVER, "neighbours", ("neighbour",), rate=20, around=burners(4)),
    Plant(MLSERVER, "slow link", ("bandwidth",), numbers=(4_000,), rate=5, around=proxied("rate", 1e6)),
    Plant(MLSERVER, "another client", ("other_traffic",), "base=0 lock=0.01", rate=12, other_rate=50.0),
    Plant(MLSERVER, "nothing, other model", ("none",), "base=0.001 sort=0.002", rate=15),
    Plant(MLSERVER, "overload, more", ("capacity",), "base=0.03", rate=50),
    Plant(MLSERVER, "lock of 50 ms", ("serial",), "base=0.001 lock=0.05", rate=14),
    Plant(MLSERVER, "timer of 120 ms", ("batch_timer",), "timer=0.12", rate=8),
    Plant(MLSERVER, "sleep of 120 ms", ("none",), "base=0.001 sleep=0.12", rate=8),
    Plant(MLSERVER, "sort of 70 ms", ("hardware",), "base=0 sort=0.07", rate=4),
    Plant(MLSERVER, "reply of 500 kB", ("codec",), "base=0.001 reply=30000", rate=4),
    Plant(MLSERVER, "8 threads", ("threads",), "base=0.001 threads=8", rate=4),
    Plant(MLSERVER, "cold start of 4 s", ("cold_start",), "cold=4", rate=15, warmup_s=0.0),
    Plant(MLSERVER, "SIGSTOP of 250 ms", ("stall",), rate=18, around=stopping(1.5, 0.25)),
    Plant(MLSERVER, "quota of half a core", ("cpu_quota",), "spin=0.02", rate=14, around=quota(0.5)),
    Plant(MLSERVER, "2 burners", ("neighbour",), "base=0.008", rate=20, around=burners(2)),
    Plant(MLSERVER, "link of 8 Mbit per s", ("bandwidth",), numbers=(5_000,), rate=4, link=SLOW_LINK),
)  # fmt: skip
TWO_AT_ONCE = (
    Plant(
        FASTAPI, "lock, far away", ("serial", "network_latency"), "lock=0.03", rate=24, around=proxied("delay", 0.02)
    ),
    Plant(FASTAPI, "spin and closed connections", ("hardware", "connections"), "spin=0.03 close", rate=8),
    Plant(FASTAPI, "neighbours and a timer", ("neighbour", "batch_timer"), "timer=0.03", rate=20, around=burners(4)),
    Plant(
        SLIPWAY, "timer, far away", ("batch_timer", "network_latency"), network=SMALL, rate=20,
        serve=("--max-queue-delay-us", "30000"), around=proxied("delay", 0.02),
    ),
    Plant(SLIPWAY, "lock and SIGSTOP", ("serial", "stall"), "base=0 lock=0.02", rate=35, around=stopping(2.0, 0.3)),
    Plant(
        MLSERVER, "large body, slow link", ("codec", "bandwidth"), numbers=(20_000,), rate=3,
        around=proxied("rate", 3e6),
    ),
    Plant(
        FASTAPI, "cold start and a body of 300 kB", ("cold_start", "codec"), "base=0.001 cold=3", numbers=(33_000,),
        rate=10, warmup_s=0.0,
    ),
    Plant(SLIPWAY, "spin and closed connections", ("hardware", "connections"), "base=0.03", rate=8,
          around=proxied("close", 0.0)),
    Plant(LITSERVE, "one worker and SIGSTOP", ("serial", "stall"), "base=0.001 sleep=0.03", rate=22,
          around=stopping(1.5, 0.25)),
    Plant(
        SLIPWAY, "padding, eight callers", ("padding", "serial", "capacity"), users=8,
        model=partial(slipway.padded, hidden=256, longest=1_024), bodies=partial(slipway.rows_of, (16, 16, 16, 1_024)),
    ),
)  # fmt: skip
TUNED = (*ON_FASTAPI, *ON_SLIPWAY, *ON_LITSERVE, *ON_MLSERVER, *TWO_AT_ONCE)
PADDING = "Slipway: padding, eight callers"
SHORT_TITLES = (
    *("FastAPI: lock around a sleep", "FastAPI: batch timer", "FastAPI: connections closed", "FastAPI: far away"),
    *("FastAPI: large JSON reply", "Slipway: batch timer", "Slipway: SIGSTOP", PADDING),
    *("Slipway: cold start", "Slipway: long inputs"),
)
"""The short form: each is far from the limits of the rules, and no other program of the machine can be its cause."""
SHORT = tuple(
    replace(one, right=one.right[:1], options=(*one.options, "--skip-calibration"))
    for one in TUNED
    if one.title in SHORT_TITLES
)
