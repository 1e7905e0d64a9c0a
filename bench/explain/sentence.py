"""The sentence: the largest parts of the median and of the p99, in words."""

from __future__ import annotations

from .stages import RESIDUAL, Band, tail_contributions

PHRASES = {
    "send_lag": "the load generator itself being late",
    "connect": "waiting for a free connection",
    "write": "writing the request",
    "receive": "the server receiving the body",
    "decode": "decoding the request",
    "queue_busy": "waiting while every model instance was busy",
    "queue_timer": "waiting for a batch to fill while an instance was free",
    "assemble": "assembling the batch",
    "compute": "the run of the model (wall time)",
    "scatter": "taking the batch apart",
    "encode": "encoding the reply",
    RESIDUAL: "network, event loop and unexplained",
}
WITHOUT_SERVER = "server and network together (the server sent no stage times)"
# Below both limits, a gap between median and tail is noise.
MIN_GAP_MS = 0.2
MIN_GAP_SHARE = 0.2


def where_the_time_went(median: Band | None, tail: Band | None, with_server: bool) -> str:
    """One or two sentences on the median and the p99, each naming its largest term and its share."""
    if median is None:
        return "Too few responses for an account of the time."
    name, ms = max(median.terms_ms.items(), key=lambda item: item[1])
    typical = f"Of a typical {median.total_ms:.2f} ms, {_part(name, ms, median.total_ms, with_server)}."
    if tail is None:
        return f"{typical} Too few responses for an account of the p99."
    gap_ms = tail.total_ms - median.total_ms
    if gap_ms < MIN_GAP_MS and gap_ms < MIN_GAP_SHARE * median.total_ms:
        return f"{typical} The p99 is hardly slower ({tail.total_ms:.2f} ms)."
    name, ms = max(tail_contributions(median, tail).items(), key=lambda item: item[1])
    return f"{typical} Of the {gap_ms:.2f} ms that the p99 adds, {_part(name, ms, gap_ms, with_server)}."


def _part(name: str, ms: float, whole_ms: float, with_server: bool) -> str:
    phrase = WITHOUT_SERVER if name == RESIDUAL and not with_server else PHRASES[name]
    # Other terms may shrink towards the tail, so that one term exceeds the whole gap.
    share = min(ms / whole_ms, 1.0) if whole_ms > 0 else 0.0
    return f"{ms:.2f} ms ({share:.0%}) is {phrase}"
