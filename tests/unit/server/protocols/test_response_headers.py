"""What the headers on request tell of a request beside its stages."""

from __future__ import annotations

import pytest

from bench.load.server_timing import ABOUT, CARRIERS, MISSING
from server.protocols.request_options import CUSTOM_ATTRIBUTES
from server.protocols.response_headers import stage_times
from server.request import Head, InferRequest, Journey

SERVER_TIMING = b"server-timing"


def request(rows: int = 2, **fields: object) -> InferRequest:
    one = InferRequest((), rows, lambda _request: None)
    one.run_rows = 4
    for name, value in fields.items():
        setattr(one, name, value)
    return one


CASES = (
    (request(), {"rows": 2}),
    (request(ahead_rows=3), {"rows": 2, "ahead": 3}),
    # Two rows of 30 and 50 positions, brought to 50, in a run of 64.
    (request(ahead_rows=0, length=50, filled=20, run_length=64), {"rows": 2, "ahead": 0, "length": 40, "padded": 64}),
    (request(cached="hit"), {"rows": 2, "cached": 1}),
    (request(cached="shared"), {"rows": 2, "cached": 2}),
    # The queue and the lengths are those of its last step.
    (request(ahead_rows=3, length=5, run_length=5, journey=Journey((), 2, 0)), {"rows": 2}),
)


@pytest.mark.parametrize(("one", "told"), CASES)
@pytest.mark.parametrize(("carrier", "header"), [("header", SERVER_TIMING), ("custom-attributes", CUSTOM_ATTRIBUTES)])
def test_bench_reads_what_the_server_tells(
    one: InferRequest, told: dict[str, int], carrier: str, header: bytes
) -> None:
    name, value = stage_times(one, Head(b"POST", b"/", []), 0, header)
    assert name == header
    found = dict(zip(ABOUT, CARRIERS[carrier].read(value)[-len(ABOUT) :], strict=True))
    assert found == {**dict.fromkeys(ABOUT, MISSING), **told}
