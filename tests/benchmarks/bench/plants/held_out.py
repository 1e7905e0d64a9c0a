"""The held-out plants: other models, figures and links than those that the rules of the verdict were made with."""

from __future__ import annotations

from .around import burners, proxied, quota, stopping
from .plant import FASTAPI, LITSERVE, MLSERVER, SLIPWAY, Plant

LONG_TIMER = ("--max-queue-delay-us", "60000")
SLOW_LINK = "tbf rate 8mbit burst 8kb latency 800ms"
MIDDLE, BROAD, DEEP = (128, 256, 3), (6_000, 64, 1), (256, 2_500, 10)
"""Dense networks: inputs, hidden size, layers."""

ON_FASTAPI = (
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
)  # fmt: skip
ON_LITSERVE = (
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
)
ON_MLSERVER = (
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
        FASTAPI, "cold start and a body of 300 kB", ("cold_start", "codec"), "base=0.001 cold=3", numbers=(33_000,),
        rate=10, warmup_s=0.0,
    ),
    Plant(SLIPWAY, "spin and closed connections", ("hardware", "connections"), "base=0.03", rate=8,
          around=proxied("close", 0.0)),
    Plant(LITSERVE, "one worker and SIGSTOP", ("serial", "stall"), "base=0.001 sleep=0.03", rate=22,
          around=stopping(1.5, 0.25)),
)  # fmt: skip
HELD_OUT = (*ON_FASTAPI, *ON_SLIPWAY, *ON_LITSERVE, *ON_MLSERVER, *TWO_AT_ONCE)
