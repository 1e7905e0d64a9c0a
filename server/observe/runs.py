"""The runs of a request: in which runs of the model, or of the steps of a pipeline, its rows were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..request import InferRequest


@dataclass(frozen=True, slots=True)
class RequestRun:
    """Rows of one request in one run, which ``computed_ns`` tells from all others of its model and ``step`` (empty: no
    pipeline). ``run_rows``: of all its requests together. Times are of ``perf_counter_ns``."""

    step: str
    picked_ns: int
    computed_ns: int
    rows: int
    run_rows: int


def runs_of(request: InferRequest) -> Sequence[RequestRun]:
    """The runs of an answered request. None where the response cache answered it, and of rows that were cut over
    several runs; of a step that ran them in parts the last part's."""
    if request.cached:
        return ()
    if request.journey is not None:
        runs = [
            RequestRun(
                one.name, one.computed_ns - one.compute_ns - one.assemble_ns, one.computed_ns, one.rows, one.run_rows
            )
            for one in request.journey.times
        ]
    else:
        runs = [RequestRun("", request.picked_ns, request.computed_ns, request.rows, request.run_rows)]
    return [one for one in runs if one.computed_ns and one.rows <= one.run_rows]
