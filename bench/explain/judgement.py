"""The judgement: the verdict on a run from its facts. Pure; the rules are in ``rules``."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Collection, Sequence

from . import refutation, rules
from .facts import Facts, Load
from .findings import LIKELY_SHARE, NORMAL_MS, Finding
from .rules.model import of_cache
from .verdict import LIKELY, NAMES, NONE, P99_MS, UNDECIDED, Cause, Gain, Verdict, three_digits

TYPICAL_COUNTS = 0.9
SEEN = 0.05
"""New connections are no cause of a latency of which they are a smaller share."""
MOSTLY_SHED = 0.5
REMEDIES = {
    "capacity": "Lower the rate, or add an instance, a server or cores.",
    "serial": "Give the server a second worker or instance, or hold the lock for a shorter time.",
    "batch_timer": "Shorten the time for which the server waits for a batch (max_queue_delay_us in Slipway).",
    "codec": "Send and request binary bodies instead of JSON, or smaller ones.",
    "bandwidth": "Make requests and responses smaller (binary, compressed, fewer rows), or use a faster link.",
    "network_latency": "Move client and server closer together, or take out the proxy between them.",
    "model_size": "Make the model smaller (int8, float16, pruning), or give it more memory.",
    "hardware": "Make the model cheaper (quantize or shrink a network, profile a script), or use faster hardware.",
    "cpu_quota": "Raise the CPU limit of the server's container, or lower its threads to the limit.",
    "neighbour": "Move the other programs away, or reserve cores for the server.",
    "stall": "Find what stops the server: garbage collection, a blocking call on its event loop, a frozen host.",
    "threads": "Use as many computing threads as cores (OMP_NUM_THREADS, intra-op threads), and no background threads.",
    "padding": "Group inputs by length (buckets), or make batches of similar lengths.",
    "input_size": "Limit or split long inputs, or serve them apart from short ones.",
    "cold_start": "Send warm-up requests, or load the model, before the server reports that it is ready.",
    "connections": "Keep connections open (HTTP keep-alive) at the server and every proxy.",
    "other_traffic": "Measure without the other client, or count its requests in the capacity.",
    "generator": "Give the generator a core of its own, lower the rate, or pass --processes 2.",
    NONE: "Nothing is wrong that this run can show. To find the limit: bench slo.",
}


def judge(
    facts: Facts | None,
    command: str,
    record: str | None = None,
    testable: Collection[str] | None = None,
    load: Load | None = None,
) -> Verdict:
    """The verdict. ``facts``: None for too few successes, of which the ``load`` may tell the reason. ``command``: the
    command line of the run; ``record``: the path of its result, if it has one. ``testable``: the causes that an
    experiment can test; None if that is unknown."""
    if facts is None and load is not None and load.shed_share >= MOSTLY_SHED:
        text = (
            f"it refused {load.shed_share:.0%} of the requests (429 or 503), and answered {load.answered_per_s:,.2g}/s"
        )
        return Verdict((Cause("capacity", LIKELY, (text,), REMEDIES["capacity"], Gain(None, None), command),))
    if facts is None:
        text = "Too few requests succeeded for a verdict."
        do = "Look at the errors first, or run longer."
        return Verdict((Cause(NONE, UNDECIDED, (text,), do, Gain(None, None), command),))
    found = sorted(rules.findings(facts).values(), key=lambda one: -_weight(one, facts))
    causes = [
        _cause(one, facts, _prove(one.name, facts, command, record, testable is None or one.name in testable))
        for one in found
    ]
    strong = [one for one in causes if one.confidence == LIKELY]
    weak = [one for one in causes if one.confidence != LIKELY]
    ordered = strong if strong else [_none(facts, command), *weak]
    ordered += weak if strong else []
    return Verdict(tuple(ordered[:3]), _ruled_out(facts, {one.name for one in found}))


def _weight(one: Finding, facts: Facts) -> float:
    """The share of p99 that a finding explains, or nearly the share of p50: noise in the tail hides no cause that the
    server measures in every request."""
    of_tail = one.high_ms / facts.p99_ms if facts.p99_ms > 0 else 0.0
    of_typical = one.typical_ms / facts.p50_ms if facts.p50_ms > 0 else 0.0
    return max(of_tail, TYPICAL_COUNTS * of_typical)


def _cause(one: Finding, facts: Facts, prove: str) -> Cause:
    """A cause is likely if it explains enough, and if the run could have shown that it is not there."""
    share = _weight(one, facts)
    # These two are seen directly, and cost time at places that a p99 need not show.
    certain = one.name == "cold_start" or (one.name == "connections" and share >= SEEN)
    warm = one.name == "cold_start" and facts.cold is not None and not facts.cold.measured  # no figure holds it
    testable = refutation.against(one.name, facts) is not None
    confidence = LIKELY if testable and not warm and (share >= LIKELY_SHARE or certain) else UNDECIDED
    gain = Gain(round(one.low_ms, 3), round(min(one.high_ms, facts.p99_ms), 3), P99_MS)
    if one.name == "cold_start" and one.high_ms > facts.p99_ms:
        gain = Gain(round(one.low_ms, 3), round(one.high_ms, 3), "ms of the slowest request")
    return Cause(one.name, confidence, one.evidence, REMEDIES[one.name], gain, prove)


def _none(facts: Facts, command: str) -> Cause:
    """No known cause explains enough. That is likely only if the run could have shown each of them."""
    evidence = [f"a typical request takes {facts.p50_ms:,.2f} ms, a slow one {facts.p99_ms:,.2f} ms"]
    burst = facts.burst
    if burst is not None and burst.cpu_ms is not None and burst.cpu_ms < 0.3 * burst.alone_ms:
        waits_ms = burst.alone_ms - burst.cpu_ms - (burst.floor_ms or 0.0)
        if waits_ms >= NORMAL_MS:
            evidence.append(
                f"{waits_ms:,.1f} ms of that it waits without computing, for every request by itself: "
                "a sleep, or a call of another service"
            )
    evidence += of_cache(facts)
    unseen = refutation.unseen(facts)
    if unseen:
        evidence.append(f"this run cannot tell whether one of these is there: {', '.join(unseen)}".replace("_", " "))
    confidence = UNDECIDED if unseen else LIKELY
    return Cause(NONE, confidence, tuple(evidence), REMEDIES[NONE], Gain(0.0, 0.0), command)


def _prove(name: str, facts: Facts, command: str, record: str | None, testable: bool) -> str:
    """The command that tests a cause. Without a file of the result it is the run itself with ``--confirm``.

    For a cause that cannot be changed from here it is the run once more, to compare after the remedy.
    """
    words = shlex.split(command)
    record = record or _option(words, "--output")
    if name in ("capacity", "serial") and facts.load.offered_per_s is not None and "--rate" in words[:-1]:
        half = three_digits(facts.load.offered_per_s / 2, grouping="")
        again = _without_files(words)
        again[again.index("--rate") + 1] = half
        return shlex.join(again)
    if not testable:
        return shlex.join(word for word in _without_files(words) if word != "--confirm")
    if record is not None:
        return f"python -m bench explain {shlex.quote(record)} --confirm"
    return shlex.join([*words, *([] if "--confirm" in words else ["--confirm"])])


def _option(words: Sequence[str], name: str) -> str | None:
    """The value of an option in a command line; None if it is not given."""
    for word, following in itertools.zip_longest(words, words[1:]):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _without_files(words: Sequence[str]) -> list[str]:
    """The command line without the files that it writes: those of the judged run are kept for the comparison."""
    options = ("--output", "--junit")
    named = {at + more for at, word in enumerate(words) for more in (0, 1) if word in options}
    return [word for at, word in enumerate(words) if at not in named and word.partition("=")[0] not in options]


def _ruled_out(facts: Facts, found: set[str]) -> tuple[str, ...]:
    """Causes that the run speaks against with figures, not those about which it says nothing."""
    return tuple(name for name in NAMES if name not in {NONE, *found} and refutation.against(name, facts))
