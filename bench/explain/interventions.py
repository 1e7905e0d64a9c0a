"""Interventions: the experiment that changes the latency if a cause is true, and what its outcome says of the cause.

Nothing is sent or changed here; ``experiments.confirm`` does that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .changes import Change
from .findings import KEPT_UP
from .ratio import Ratio
from .verdict import P99_MS, PROVEN, RULED_OUT, UNDECIDED, Cause

LEAST_EFFECT = math.log(1.1)
"""A forecast effect below a tenth cannot be told from chance in a few blocks."""
LEAST_RATIO = 0.001
PLACEBO_SHARE = 0.5
"""A placebo may move the percentile by this share of the effect at most."""
ONE_AT_A_TIME = 4
"""Callers of a closed loop, against one: a server that works on one request at a time takes four times as long."""
SERIAL_RATIO = (0.2, 0.45)
PRIORITY, QUOTA = "priority", "quota"
COMPUTE, CODEC = "compute", ("decode", "encode")
OF_CORES = ("cpu_quota", "neighbour", "threads")
"""What takes cores from the server makes all that it does longer, and its capacity lower."""
OF_RUNS, OF_QUEUE = (*OF_CORES, "model_size", "padding", "input_size"), (*OF_CORES, "serial", "other_traffic", "stall")
HALF = 0.5
"""Of the rate, or of what the server answered if it did not keep up."""
STALL_BLOCK_S = 3.0
"""Stalls are seconds apart."""
OTHER_PERCENTILE = (0.5, 1.5)
"""A gain is one of p99. At a lower percentile the logarithm of the effect of a cause of the tail may be that many times
as large."""
ESTIMATE = 1.2
"""A gain is known to a fifth: where it is nearly the whole latency, little or nothing of that is left."""
MOST_SINGLE_LOAD = 0.5
"""Of the capacity without batches, up to which a server without them answers this load at ease."""
SECOND_RATIO = (0.001, 0.5)
"""After a cold start the second request takes at most half as long as the first one."""
HALF_OF_CALLERS = (0.4, 0.7)
"""Half the callers of a saturated server wait half as long."""
ALL_MORE, HALF_MORE = 1.0, 0.5
"""Injected time in a stage, as a share of its own."""
MOST_BUSY = 0.25
"""Of one core, for a stage in which ``ALL_MORE`` makes no queue of its own."""
MOST_QUEUED = 0.9
"""Of one server: a queue that is longer has no mean that a few seconds show."""
MORE = (0.7, 1.5)
"""The latency grows by so much of the injected time: less where a part of it was hidden, more where requests queue."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What can be changed in the run that is explained.

    ``rate_per_s``: of an open loop, or ``users`` of a closed one, else None. ``answered_per_s``: successes. ``rows``:
    of a generated body, 0 for bodies from files. ``binary``: they hold binary tensors. ``payloads``: their number.
    ``timer_us``: the server's batch timer, None if unknown. ``slows``: the server slows its stages down on request.
    ``p50_ms``, ``p99_ms``, ``latency_ms`` (by percentile): as measured. ``stages_us``: what a typical request spends in
    each stage of the server.
    ``ahead``: this user may raise the priority of the server's processes; ``unquota``: and lift their CPU quota.
    ``copies``: the server can be started once more. ``threads``: compute threads of all ``instances`` on ``cores``.
    ``collects``: its garbage collector made a long pause. ``churns``: this client opened a connection for most of its
    requests. ``own_ahead``: it may run ahead of other programs itself. ``single_load``: the load over the capacity of
    the server if it ran each request alone, for a model that pads; None if unknown. ``alone_ms``: the
    latency of a request without another one, and ``upload_ms``: what its body needs on its way to the server, by the
    probe with white space behind JSON; 0 if unknown, or too short to tell.
    """

    rate_per_s: float | None
    rows: int
    binary: bool
    payloads: int
    timer_us: int | None
    slows: bool
    p99_ms: float
    p50_ms: float = 0.0
    stages_us: Mapping[str, float] = field(default_factory=dict)
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    users: int | None = None
    answered_per_s: float = 0.0
    ahead: bool = False
    unquota: bool = False
    copies: bool = False
    cores: int = 0
    threads: int = 0
    instances: int = 1
    collects: bool = False
    churns: bool = False
    own_ahead: bool = False
    single_load: float | None = None
    alone_ms: float = 0.0
    upload_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment.

    ``words``: what is changed. ``load``: the key of a change of the load, ``stage`` and ``extra_us``: of one of the
    server, which took ``stage_us`` so far; ``rival``: the same of the placebo, None if that is no change at all.
    ``change``: the same in the words of a forecast, None if it cannot be simulated. ``removes``: the share of the
    cause that the experiment takes away, for a forecast from the verdict's gain. ``expected``: a forecast of its own.
    ``percentile``: None for the highest that a block has responses enough for. ``hold``: what is held on the server's
    machine meanwhile, for the load generator itself if ``own``. ``flags``: of a second server that gets the load
    instead. ``first_request``: of fresh servers is compared with the second one. ``block_s``: another length of blocks.
    ``of_tail``: the cause may leave percentiles below p99 as they are. ``unless``: causes that would give the same
    effect; while one of them is likely, the experiment proves nothing.
    """

    cause: str
    words: str
    load: str = ""
    stage: str = ""
    extra_us: int = 0
    stage_us: float = 0.0
    rival: Experiment | None = None
    change: Change | None = None
    removes: tuple[float, float] = (1.0, 1.0)
    expected: tuple[float, float] | None = None
    percentile: str | None = field(default=None)
    hold: str = ""
    own: bool = False
    flags: tuple[str, ...] = ()
    first_request: bool = False
    block_s: float | None = None
    of_tail: bool = False
    unless: tuple[str, ...] = ()


def experiment(cause: str, subject: Subject) -> Experiment | None:
    """The experiment for a cause; None if what it would change cannot be changed from here."""
    make = _EXPERIMENTS.get(cause)
    return make(subject) if make is not None else None


def expected(one: Experiment, cause: Cause, p50_ms: float, p99_ms: float, at_ms: float | None = None) -> Ratio | None:
    """The ratio to expect if the cause is true, from the gain in the verdict; None if that has no size.

    ``at_ms``: the latency at the percentile of the ratio, where that is lower than the p99 of the gain; else None.
    """
    if one.expected is not None:
        low, high = one.expected
        return Ratio(math.sqrt(low * high), low, high)
    gain = cause.gain
    if gain.unit != P99_MS or gain.low is None or gain.high is None or not 0 < p50_ms <= p99_ms:
        return None
    least, most = one.removes
    # What every request loses is a larger share of a typical one.
    whole_ms = p99_ms if at_ms is None or one.of_tail else p50_ms
    low = max(1 - ESTIMATE * most * gain.high / whole_ms, LEAST_RATIO)
    high = max(1 - least * gain.low / p99_ms, low)
    if at_ms is not None and one.of_tail:
        # The requests there may lose less than those around p99, or as many milliseconds.
        low = min(low ** OTHER_PERCENTILE[1], 1 - ESTIMATE * most * gain.high / at_ms)
        low, high = max(low, LEAST_RATIO), high ** OTHER_PERCENTILE[0]
    return Ratio(math.sqrt(low * high), low, high)


def judge(
    seen: Ratio, placebo: Ratio, told: Ratio | None, agree: bool = True, decides: bool = True
) -> tuple[str | None, str]:
    """The confidence in a cause after its experiment, and why. None leaves the confidence as it was.

    Proven needs four things: the interval of the effect excludes none; the effect lies within the forecast's interval,
    which excludes none too; it is larger than that of the placebo; and the rounds ``agree``: the effect of each points
    the same way. ``decides``: where it is missing, the cause is ruled out. A percentile below that of the gain does not
    decide, because a cause of the tail may leave it as it was. An interval that holds both the forecast and no effect
    says nothing of the cause.
    """
    text = f"p99 became {_words(seen)} of what it was"
    if told is None:
        return None, f"{text}; no forecast says how much that should be"
    least = min(abs(math.log(told.low)), abs(math.log(told.high)))
    if (told.low - 1) * (told.high - 1) <= 0 or least < LEAST_EFFECT:
        return None, f"{text}; the forecast ({_words(told)}) is too near to no effect for a proof"
    effect = min(abs(math.log(seen.low)), abs(math.log(seen.high)))
    same_way = (seen.low - 1) * (seen.high - 1) > 0 and (seen.value - 1) * (told.value - 1) > 0
    within = told.low <= seen.value <= told.high
    moved = abs(math.log(placebo.value))
    if agree and same_way and within and moved < effect and moved <= PLACEBO_SHARE * abs(math.log(seen.value)):
        return PROVEN, f"{text}, {_words(told)} was forecast, and the placebo gave {placebo.value:.2f}"
    if decides and ((told.high < 1 and seen.low > told.high) or (told.low > 1 and seen.high < told.low)):
        return RULED_OUT, f"{text}, and {_words(told)} was forecast if this were the cause"
    text = f"{text}, {_words(told)} was forecast, and the placebo gave {placebo.value:.2f}"
    if seen.low <= 1 <= seen.high and seen.low <= told.value <= seen.high:
        return None, f"{text}: too wide to tell"
    return UNDECIDED, text


def _words(one: Ratio) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _capacity(subject: Subject) -> Experiment | None:
    """Half of what is sent; of what the server answers, where that is less: twice the capacity is too much, too."""
    if subject.rate_per_s is None:
        if subject.users is None or subject.users < 2:
            return None
        return Experiment("capacity", "half the callers", "fewer_users", expected=HALF_OF_CALLERS, unless=OF_QUEUE)
    kept_up = min(subject.answered_per_s / subject.rate_per_s, 1.0) or 1.0
    share = HALF * (kept_up if kept_up < KEPT_UP else 1.0)
    words = f"{share:.0%} of the rate"
    return Experiment(
        "capacity", words, "lower_rate", change=Change(rate=share), removes=(0.5, 1.0), of_tail=True, unless=OF_QUEUE
    )


def _serial(_subject: Subject) -> Experiment:
    return Experiment(
        "serial",
        f"one caller instead of {ONE_AT_A_TIME}",
        "one_caller",
        expected=SERIAL_RATIO,
        percentile="p50",
        unless=OF_CORES,
    )


def _timer(subject: Subject) -> Experiment | None:
    if not subject.slows or not subject.timer_us:
        return None
    return Experiment(
        *("batch_timer", "no batch timer"), stage="queue_timer", extra_us=-subject.timer_us,
        change=Change(max_queue_delay_us=0),
    )  # fmt: skip


def _codec(subject: Subject) -> Experiment | None:
    if subject.rows and not subject.binary:
        return Experiment("codec", "binary bodies", "binary", removes=(0.6, 1.0))
    found = _more("codec", _longest(subject, CODEC), COMPUTE, subject)
    return None if found is None else replace(found, unless=OF_CORES)


def _bandwidth(subject: Subject) -> Experiment | None:
    if subject.rows >= 2:
        return Experiment("bandwidth", "half the rows in each body", "half_rows", removes=(0.3, 0.8))
    if not subject.upload_ms or subject.alone_ms <= 0:
        return None
    # White space is no work for the server, but as many bytes on the way. One caller makes no queue of them.
    least, most = (1 + factor * subject.upload_ms / subject.alone_ms for factor in MORE)
    words = "bodies of twice the bytes, by white space, from one caller"
    return Experiment("bandwidth", words, "white_space", expected=(least, most), percentile="p50")


def _input_size(subject: Subject) -> Experiment | None:
    return (
        Experiment("input_size", "the smallest body alone", "smallest", of_tail=True) if subject.payloads > 1 else None
    )


def _hardware(subject: Subject) -> Experiment | None:
    found = _more("hardware", COMPUTE, _longest(subject, CODEC), subject)
    return None if found is None else replace(found, change=Change(extra_us=found.extra_us), unless=OF_RUNS)


def _more(cause: str, stage: str, rival: str, subject: Subject) -> Experiment | None:
    """More time in a stage, in proportion to its own. The placebo is the same share more in its rival: the same time
    there would delay an answer just as much, and tell nothing."""
    took_us = subject.stages_us.get(stage, 0.0)
    if not subject.slows or took_us < 1 or not 0 < subject.p50_ms <= subject.p99_ms:
        return None
    share = _share_more(subject, took_us / 1e3)
    injected = [
        Experiment(cause, "", stage=name, extra_us=max(round(share * us), 1), stage_us=us)
        for name, us in ((stage, took_us), (rival, subject.stages_us.get(rival, 0.0)))
    ]
    return replace(
        injected[0],
        words=f"{injected[0].extra_us:,} us more in {stage}",
        rival=injected[1],
        expected=_slower(subject, took_us / 1e3, share),
    )


def _share_more(subject: Subject, took_ms: float) -> float:
    """How much longer a part of each request is made, as a share: less where that would make a queue of its own."""
    return ALL_MORE if (subject.rate_per_s or math.inf) * took_ms / 1e3 <= MOST_BUSY else HALF_MORE


def _slower(subject: Subject, took_ms: float, share: float) -> tuple[float, float]:
    """The ratio of latencies to expect if a part of each request takes longer by this share.

    At most, requests queue for this part one behind the other, which takes them longer than the part itself.
    """
    least, most = MORE
    more_ms = share * took_ms
    queued_ms = _queued_ms(subject, took_ms * (1 + share)) - _queued_ms(subject, took_ms)
    return 1 + least * more_ms / subject.p99_ms, 1 + max(most * more_ms, more_ms + queued_ms) / subject.p50_ms


def _queued_ms(subject: Subject, took_ms: float) -> float:
    """The mean wait for one server with this service time and random arrivals (M/D/1); 0 for a closed loop."""
    busy = min((subject.rate_per_s or 0.0) * took_ms / 1e3, MOST_QUEUED)
    return busy * took_ms / (2 * (1 - busy))


def _longest(subject: Subject, stages: Sequence[str]) -> str:
    return max(stages, key=lambda name: subject.stages_us.get(name, 0.0))


def _hold(cause: str, what: str, words: str) -> Callable[[Subject], Experiment | None]:
    def make(subject: Subject) -> Experiment | None:
        able = subject.ahead if what == PRIORITY else subject.unquota
        return Experiment(cause, words, hold=what, of_tail=True) if able else None

    return make


def _stall(subject: Subject) -> Experiment | None:
    if not subject.slows or not subject.collects:
        return None
    return Experiment("stall", "no garbage collection", stage="gc", block_s=STALL_BLOCK_S, of_tail=True)


def _threads(subject: Subject) -> Experiment | None:
    fitting = max(subject.cores // max(subject.instances, 1), 1)
    if not subject.copies or subject.threads <= fitting * subject.instances:
        return None
    words = f"a second server with {fitting} threads in each instance"
    return Experiment("threads", words, flags=("--threads", str(fitting)))


def _padding(subject: Subject) -> Experiment | None:
    if not subject.copies or subject.single_load is None or subject.single_load > MOST_SINGLE_LOAD:
        return None
    words = "a second server that runs each request alone"
    return Experiment("padding", words, flags=("--max-batch-size", "1"), removes=(0.5, 1.0))


def _connections(subject: Subject) -> Experiment | None:
    if not subject.churns:
        return None  # a proxy opens them, out of reach
    words = "connections that are opened before they are needed"
    return Experiment("connections", words, "opened_ahead", removes=(0.3, 1.0))


def _generator(subject: Subject) -> Experiment | None:
    if not subject.own_ahead:
        return None
    words = "the load generator ahead of other programs"
    return Experiment("generator", words, hold=PRIORITY, own=True, removes=(0.3, 1.0), of_tail=True)


def _cold_start(subject: Subject) -> Experiment | None:
    if not subject.copies:
        return None
    return Experiment(
        *("cold_start", "first requests of fresh servers"), first_request=True, expected=SECOND_RATIO, percentile="p50"
    )


_EXPERIMENTS: dict[str, Callable[[Subject], Experiment | None]] = {
    "capacity": _capacity,
    "serial": _serial,
    "batch_timer": _timer,
    "codec": _codec,
    "bandwidth": _bandwidth,
    "input_size": _input_size,
    "hardware": _hardware,
    "cpu_quota": _hold("cpu_quota", QUOTA, "no CPU quota"),
    "neighbour": _hold("neighbour", PRIORITY, "the server ahead of other programs"),
    "stall": _stall,
    "threads": _threads,
    "padding": _padding,
    "connections": _connections,
    "generator": _generator,
    "cold_start": _cold_start,
}
