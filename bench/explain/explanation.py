"""The explanation: where the time of one load went, and what was measured beside it."""

from __future__ import annotations

from dataclasses import dataclass

from . import audits, evidence, self_inflicted, tail, weights
from .audits import Audit
from .batching import Batching
from .dispersion import Dispersion
from .observations import Columns, Observations
from .stages import Band
from .tail import Attribution


@dataclass(frozen=True, slots=True)
class Explanation:
    """Bands by name, the tail against the median, variance by term, arrivals, batching and audits.

    ``evidence``: sentences by resource, without a judgement: that is the verdict's. Empty without a band around p50.
    """

    bands: dict[str, Band]
    tail: Attribution | None
    variance: dict[str, float] | None
    arrivals: tuple[Dispersion, ...]
    batching: Batching | None
    audits: tuple[Audit, ...]
    evidence: dict[str, tuple[str, ...]]


def explain(columns: Columns, observed: Observations) -> Explanation:
    """The explanation of a load. ``columns``: all rows, warm-ups included; only the audits need those."""
    account = observed.account
    return Explanation(
        bands=observed.bands,
        tail=observed.tail,
        variance=tail.variance_shares(account),
        arrivals=observed.arrivals,
        batching=observed.batching,
        audits=_audits(columns, observed),
        evidence=_evidence(observed) if "p50" in observed.bands else {},
    )


def _audits(columns: Columns, observed: Observations) -> tuple[Audit, ...]:
    totals = observed.timeline.totals if observed.timeline is not None else None
    found = (
        audits.little(columns, observed.stretches),
        audits.little_in_server(observed.account, totals, observed.seconds),
        audits.utilisation(observed.runs, totals, observed.seconds),
        audits.contradictions(observed.account),
    )
    return tuple(one for one in found if one is not None)


def _evidence(observed: Observations) -> dict[str, tuple[str, ...]]:
    return {
        "Network and bodies": tuple(evidence.of_network(observed)),
        "Model and memory": (*evidence.of_model(observed), *weights.of_weights(observed)),
        "Requests and queue": tuple(evidence.of_queue(observed)),
        "Machine": tuple(evidence.of_machine(observed)),
        "Timers, codecs, event loop, threads": tuple(self_inflicted.of_self_inflicted(observed)),
    }
