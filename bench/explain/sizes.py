"""Sizes: what the inputs of slow requests take longer than those of others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .stages import Account

MIN_PER_KIND, MIN_PER_PAYLOAD = 3, 10
"""Requests of one size, and of one of several bodies of the same size: more, because many bodies differ by chance."""
SIZES_PER_DOUBLING = 2
MOST_UNTOLD = 0.1

Columns = dict[str, NDArray[np.int64]]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sizes:
    """``more_ms``: latency that the inputs of the requests around p99 take more than the quickest kind of input.
    ``long``: the payloads that take twice as long as the quickest. ``typical``, ``slow``: mean size of all inputs and
    of those around p99, in ``unit``: positions (rows x length) or rows where the server tells them, else bytes.
    ``rare``: some around p99 are larger than most, and came too seldom to tell how long they take.
    """

    more_ms: float = 0.0
    long: frozenset[int] = frozenset()
    typical: float = 0.0
    slow: float = 0.0
    unit: str = "bytes"
    uneven: float = 0.0
    rare: bool = False


def of(window: Columns, account: Account, tail: NDArray[np.intp]) -> Sizes:
    """The sizes of the measured rows. ``tail``: requests of the account.

    Inputs of about one size count as one kind: of many bodies each is sent seldom. Requests that the response cache
    answered say nothing of their inputs.
    """
    payload, sent = (
        window[name][np.searchsorted(window["due_ns"], account.due_ns)] for name in ("payload", "bytes_out")
    )
    ran = account.about["cached"] <= 0
    if not len(tail) or not ran.any():
        return Sizes()
    size, unit = _size(account, sent, ran)
    kind = np.round(SIZES_PER_DOUBLING * np.log2(np.maximum(size, 1))).astype(np.int64)
    least = MIN_PER_KIND
    if len(np.unique(kind[ran])) < 2:
        kind, least = payload, MIN_PER_PAYLOAD
    latency_ms = account.total_ns / 1e6
    own_ms = _own_ms(kind[ran], latency_ms[ran], least)
    rare = bool((~np.isin(kind[tail], list(own_ms)) & (kind[tail] > np.median(kind))).any()) and kind is not payload
    if len(own_ms) < 2:
        return Sizes(rare=rare)
    least_ms = min(own_ms.values())
    usual_ms = float(np.median([own_ms[one] for one in kind[ran].tolist() if one in own_ms]))
    more = [
        max(own_ms.get(one, usual_ms) - least_ms, 0.0) if runs else 0.0
        for one, runs in zip(kind[tail].tolist(), ran[tail].tolist(), strict=True)
    ]
    slow = [one for one, ms in own_ms.items() if ms > 2 * least_ms]
    long = frozenset(payload[np.isin(kind, slow)].tolist())
    each_ms = np.array([own_ms.get(one, usual_ms) for one in kind[ran].tolist()])
    uneven = float(each_ms.var() / np.square(each_ms).mean())
    return Sizes(float(np.mean(more)), long, float(size[ran].mean()), float(size[tail].mean()), unit, uneven, rare)


def _own_ms(kind: Integers, latency_ms: NDArray[np.float64], least: int) -> dict[int, float]:
    """The quicker half of each kind's requests: those that waited least for others."""
    counts = {one: int((kind == one).sum()) for one in np.unique(kind).tolist()}
    return {one: float(np.quantile(latency_ms[kind == one], 0.25)) for one, count in counts.items() if count >= least}


def _size(account: Account, sent: Integers, ran: NDArray[np.bool_]) -> tuple[Integers, str]:
    rows, length = account.about["rows"], account.about["length"]
    if (length[ran] <= 0).mean() <= MOST_UNTOLD:
        return rows * length, "positions"
    if (rows[ran] <= 0).mean() <= MOST_UNTOLD and len(np.unique(rows[ran])) > 1:
        return rows, "rows"
    return sent, "bytes"
