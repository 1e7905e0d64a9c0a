"""A log becomes a trace: arrivals and not replies, nothing guessed in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import Unusable
from bench.load import access_log, arrivals, trace

SLIPWAY = "2026-11-21 10:00:0%d,500 INFO slipway.access: POST /invocations 200 31 bytes %d.000 ms"
COMBINED = '10.0.0.1 - - [21/Nov/2026:10:00:0%d +0000] "POST /invocations HTTP/1.1" 200 31 "-" "curl"'


def test_slipways_own_log_is_taken_back_to_the_arrival() -> None:
    found = access_log.read([SLIPWAY % (1, 300), SLIPWAY % (1, 100), "INFO started", ""])
    assert found.arrivals[1].at_s - found.arrivals[0].at_s == pytest.approx(0.2)
    assert (found.skipped, found.coarse) == (1, False)


def test_whole_seconds_are_spread_and_said() -> None:
    found = access_log.read([COMBINED % 1] * 50)
    assert found.coarse
    instants = sorted(one.at_s % 60 for one in found.arrivals)
    assert 1 <= instants[0] < instants[-1] < 2
    assert found.arrivals == access_log.read([COMBINED % 1] * 50).arrivals


def test_json_lines_and_paths() -> None:
    lines = ['{"ts": 5.25, "path": "/a"}', '{"time": "2026-11-21T10:00:00Z", "uri": "/b"}', '{"path": "/a"}', "[]"]
    assert [one.at_s for one in access_log.read(lines, path="/a").arrivals] == [5.25]
    assert access_log.read(lines).skipped == 2


def test_a_trace_may_be_sent_faster(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    trace.write(path, trace.make("log", access_log.read([SLIPWAY % (second, 0) for second in range(5)]).arrivals))
    plain, twice = arrivals.parse(f"trace:{path}"), arrivals.parse(f"trace:{path}@2")
    assert plain.rate_per_s == pytest.approx(1)
    assert twice.rate_per_s == pytest.approx(2)
    with pytest.raises(Unusable, match="FILE@2"):
        arrivals.parse(f"trace:{path}@fast")


def test_an_empty_log_is_no_trace() -> None:
    with pytest.raises(Unusable, match="needs two"):
        trace.make("log", access_log.read(["nothing"]).arrivals)
