"""The facts of planted runs: a server at ease, and what a fault changes in them."""

from __future__ import annotations

from dataclasses import replace

from bench.explain.facts import Facts, Host, Load
from bench.explain.stages import TERMS
from bench.load.burst import Burst, Together
from bench.observe.model_work import ModelWork

ONE_BY_ONE, AT_ONCE = 1.0, 0.0


def terms(**ms: float) -> dict[str, float]:
    return {**dict.fromkeys(TERMS, 0.0), **ms}


def burst(alone_ms: float = 6.0, serial: float = AT_ONCE, **fields: object) -> Burst:
    """The probe of a server that adds ``serial`` times the latency alone for each further request."""
    together = tuple(Together(size, tuple(alone_ms * (1 + serial * at) for at in range(size))) for size in (2, 4, 8))
    found = Burst(
        alone_ms=alone_ms, floor_ms=0.4, connect_ms=0.2, fresh_ms=alone_ms + 0.3, together=together,
        stagger_ms=alone_ms / 2, staggered_ms=alone_ms * (1 + serial / 2), padding_bytes=20_000, padded_ms=alone_ms,
        reading_ms=0.0, reply_bytes=25, cpu_ms=0.8 * alone_ms, run_delay_ms=0.0, quiet_cores=0.0, requests=100,
        failed=0, seconds=2.0,
    )  # fmt: skip
    return replace(found, **fields)  # type: ignore[arg-type]


LOAD = Load(
    offered_per_s=40.0, answered_per_s=40.0, failed_share=0.0, shed_share=0.0, requests=500, connections=6,
    run_delay=0.0, generator_cpu=0.05, resent=0, json_ms=0.02, body_bytes=500.0, payloads=1,
)  # fmt: skip
HOST = Host(
    cores=2.0, server_cores=0.2, busiest_thread=0.2, other_cores=0.0, run_delay=0.0, throttled=0.0,
    steal=0.0, major_faults=0.0, rss_bytes=8e7, own_bytes=4e7, memory_bytes_per_s=1e10, strangers=0.0,
)  # fmt: skip


def facts(p50_ms: float = 6.0, p99_ms: float = 9.0, **fields: object) -> Facts:
    """A foreign server at ease, with the fields that a plant changes."""
    made = Facts(
        p50_ms, p99_ms, terms(residual=p50_ms), terms(residual=p99_ms), with_server=False, load=LOAD, host=HOST,
        burst=burst(),
    )  # fmt: skip
    return replace(made, **fields)  # type: ignore[arg-type]


def slipway(typical: dict[str, float], slow: dict[str, float], **fields: object) -> Facts:
    """A server with stage times."""
    p50_ms, p99_ms = sum(typical.values()), sum(slow.values())
    fields = {"burst": burst(p50_ms), **fields}
    return facts(p50_ms, p99_ms, typical=terms(**typical), slow=terms(**slow), with_server=True, **fields)


def work(**changed: object) -> ModelWork:
    """What a server tells of one model."""
    found = ModelWork(
        "m", "1", "", seconds=10.0, runs=500.0, rows=1_000.0, busy=0.5, instances=2, threads=4, real=0.0, padding=0.0,
        file_bytes=None, costs=(), stages_ms={},
    )  # fmt: skip
    return replace(found, **changed)  # type: ignore[arg-type]
