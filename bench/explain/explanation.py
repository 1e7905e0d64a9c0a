"""The explanation: where the time of one load went, and the evidence for each cause of slowness."""

from __future__ import annotations

from dataclasses import dataclass

from . import audits, causes, tail
from .audits import Audit
from .batching import Batching
from .causes import Cause
from .dispersion import Dispersion
from .observations import Columns, Observations
from .stages import Band
from .tail import Attribution


@dataclass(frozen=True, slots=True)
class Explanation:
    """Bands by name, the tail against the median, variance by term, arrivals, batching, audits, and the five causes.

    ``without_cause``: the share of a typical request's time that belongs to no cause: the load generator, the network,
    and the unexplained rest. None if the server sent no stage times.
    """

    bands: dict[str, Band]
    tail: Attribution | None
    variance: dict[str, float] | None
    arrivals: tuple[Dispersion, ...]
    batching: Batching | None
    audits: tuple[Audit, ...]
    causes: tuple[Cause, ...]
    without_cause: float | None


def explain(columns: Columns, observed: Observations) -> Explanation:
    """The explanation of a load. ``columns``: all rows, warm-ups included; only the audits need those."""
    account = observed.account
    typical = observed.bands.get("p50")
    return Explanation(
        bands=observed.bands,
        tail=observed.tail,
        variance=tail.variance_shares(account),
        arrivals=observed.arrivals,
        batching=observed.batching,
        audits=_audits(columns, observed),
        causes=causes.weigh(observed) if typical is not None else (),
        without_cause=_without_cause(typical) if typical is not None and account.with_server else None,
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


def _without_cause(typical: Band) -> float:
    rest_ms = sum(typical.terms_ms[name] for name in causes.terms_without_cause())
    return max(rest_ms, 0.0) / typical.total_ms if typical.total_ms > 0 else 0.0
