"""The tuned plants: those that the rules of the verdict were made with."""

from __future__ import annotations

from dataclasses import replace

from .around import burners, crowded, proxied, quota, stopping
from .plant import FASTAPI, LITSERVE, MLSERVER, SLIPWAY, Plant

SMALL, WIDE, HEAVY = (64, 64, 2), (20_000, 16, 1), (256, 2_000, 4)
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
)
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
    Plant(SLIPWAY, "a crowded generator", ("generator",), network=SMALL, rate=60, crowded=True, around=crowded(3)),
    Plant(SLIPWAY, "weights", ("model_size",), network=(64, 6_000, 4), rate=4),
    Plant(
        SLIPWAY,
        "a cache",
        ("hardware", "none"),
        network=HEAVY,
        numbers=tuple(range(64, 104)),
        serve=("--cache-mb", "64"),
    ),
)
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
)
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
)
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
        SLIPWAY, "padding, eight callers", ("padding", "serial", "capacity"), padded=(256, 1_024),
        numbers=(16, 16, 16, 1_024), users=8,
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
