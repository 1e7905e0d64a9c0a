"""Refutation: for each cause, the observation that speaks against it. A run that lacks the observation cannot tell."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..load.calibration import USABLE_SHARE
from .evidence import CODEC
from .facts import Facts
from .findings import NORMAL_MS, QUIET, View, held_weights_ms, others, pool_wait_ms, saturated, view_of
from .rules.model import MOVES_MS, READS, READS_AT_MOST

Against = Callable[[View], bool | None]
"""True: the run speaks against the cause. False: it does not. None: the observation is missing."""
SMALL = 0.05
"""A share of the latency below which a cause does not matter."""


def against(name: str, facts: Facts) -> bool | None:
    """What the run says against a cause: see ``Against``."""
    return _AGAINST[name](view_of(facts))


def unseen(facts: Facts) -> tuple[str, ...]:
    """The causes of which the run can tell nothing."""
    view = view_of(facts)
    return tuple(name for name, one in _AGAINST.items() if one(view) is None)


def _capacity(view: View) -> bool:
    return not saturated(view.facts) and view.wait_ms < 2 * SMALL * view.facts.p99_ms


def _serial(view: View) -> bool | None:
    return None if view.concurrency is None else view.concurrency.serial < 0.3


def _batch_timer(view: View) -> bool | None:
    facts, burst = view.facts, view.facts.burst
    if facts.with_server:
        return _small(facts, "queue_timer")
    if burst is None or burst.staggered_ms is None:
        return None
    return burst.staggered_ms > 0.95 * burst.alone_ms


def _codec(view: View) -> bool | None:
    facts = view.facts
    if facts.with_server:
        return _small(facts, *CODEC)
    if view.worked is not None and view.worked < 2 * SMALL:
        return True
    return None if view.worked is None or facts.load.json_ms is None else facts.load.json_ms < SMALL * facts.alone_ms


def _bandwidth(view: View) -> bool | None:
    facts = view.facts
    if facts.with_server:
        return _small(facts, "write", "receive")
    if view.concurrency is None or facts.burst is None:
        return None
    if view.concurrency.transfer_ms:
        return False
    # TCP's rate is that to the next machine or proxy: a high one says nothing of the way behind it.
    return None if facts.burst.padded_ms is None else True


def _network_latency(view: View) -> bool | None:
    burst = view.facts.burst
    if burst is None or burst.floor_ms is None:
        return None
    return burst.floor_ms < 2 * SMALL * view.facts.alone_ms


def _model_size(view: View) -> bool | None:
    host, model = view.facts.host, view.facts.model
    if host.major_faults is None:
        return None
    if view.work_ms < MOVES_MS:
        return host.major_faults < 1
    reading_ms = model.weights_ms
    if reading_ms is None:
        reading_ms = held_weights_ms(host)
    if reading_ms is None:
        return None
    share = reading_ms / view.work_ms
    return host.major_faults < 1 and (share < READS / 3 or share > READS_AT_MOST)


def _hardware(view: View) -> bool | None:
    share = view.facts.model.cpu_share
    if view.facts.with_server and view.work_ms < NORMAL_MS:
        return True
    if share is None and view.worked is None:
        return None
    return view.work_ms < NORMAL_MS or (share is not None and share < SMALL)


def _cpu_quota(view: View) -> bool | None:
    throttled = view.facts.host.throttled
    return None if throttled is None else throttled < 0.001


def _neighbour(view: View) -> bool | None:
    host = view.facts.host
    if host.run_delay is None or host.server_cores is None:
        return None
    return host.run_delay < SMALL * (host.run_delay + host.server_cores + 1e-9) and (host.steal or 0.0) < SMALL


def _stall(view: View) -> bool:
    return view.facts.stalls is None


def _threads(view: View) -> bool | None:
    burst, cores = view.facts.burst, view.facts.host.cores
    if burst is None or burst.cpu_ms is None or burst.run_delay_ms is None or not cores:
        return None
    if (burst.quiet_cores or 0.0) >= QUIET:
        return False
    demand_ms = burst.cpu_ms + burst.run_delay_ms
    return demand_ms < cores * burst.alone_ms or burst.run_delay_ms < SMALL * demand_ms


def _padding(view: View) -> bool | None:
    """Padding is computed: where little is computed, there is little padding."""
    facts = view.facts
    if facts.per_request is not None and facts.per_request.padded_slow_ms is not None:
        return max(facts.per_request.padded_slow_ms, facts.per_request.padded_ms or 0.0) < SMALL * facts.p99_ms
    if facts.model.waste is not None:
        return facts.model.waste < SMALL
    if facts.with_server and facts.model.instances is not None:
        return True  # its model pads nothing
    return True if _hardware(view) else None


def _input_size(view: View) -> bool | None:
    inputs = view.facts.sizes
    if view.facts.load.payloads > 1 and inputs.rare:
        return None
    return view.facts.load.payloads <= 1 or (inputs.more_ms < SMALL * view.facts.p99_ms and inputs.uneven < SMALL)


def _cold_start(view: View) -> bool:
    return view.facts.cold is None


def _connections(view: View) -> bool:
    load, share = view.facts.load, view.facts.model.connections_share
    return load.connections < 0.1 * load.requests and (share or 0.0) < 0.1


def _other_traffic(view: View) -> bool | None:
    facts, burst = view.facts, view.facts.burst
    if facts.model.requests_share is not None:
        return others(facts) <= SMALL
    if facts.host.strangers is None or burst is None or burst.quiet_cores is None:
        return None
    return facts.host.strangers < SMALL and burst.quiet_cores < QUIET


def _generator(view: View) -> bool:
    load = view.facts.load
    beyond = (load.offered_per_s or 0.0) > USABLE_SHARE * (load.ceiling_per_s or math.inf)
    late_ms = view.facts.slow["send_lag"] + pool_wait_ms(view.facts)
    return not beyond and late_ms < 0.03 * view.facts.p99_ms


def _small(facts: Facts, *terms: str) -> bool:
    """Whether these terms are small in typical and in slow requests."""
    bands = ((facts.typical, facts.p50_ms), (facts.slow, facts.p99_ms))
    return all(sum(band[name] for name in terms) < SMALL * whole_ms for band, whole_ms in bands)


_AGAINST: dict[str, Against] = {
    "capacity": _capacity,
    "serial": _serial,
    "batch_timer": _batch_timer,
    "codec": _codec,
    "bandwidth": _bandwidth,
    "network_latency": _network_latency,
    "model_size": _model_size,
    "hardware": _hardware,
    "cpu_quota": _cpu_quota,
    "neighbour": _neighbour,
    "stall": _stall,
    "threads": _threads,
    "padding": _padding,
    "input_size": _input_size,
    "cold_start": _cold_start,
    "connections": _connections,
    "other_traffic": _other_traffic,
    "generator": _generator,
}
