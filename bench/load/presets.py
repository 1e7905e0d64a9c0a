"""Presets: the scenarios of MLPerf Inference as loads over HTTP."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """The options that a scenario sets unless the user does. ``users`` None: an open loop, whose rate the user gives.

    ``rows``: samples in each request, for generated payloads.
    """

    users: int | None
    rows: int
    duration_s: float
    words: str


PRESETS = {
    "single-stream": Preset(1, 1, 60.0, "one caller, one sample at a time; reports p90"),
    "multi-stream": Preset(1, 8, 60.0, "one caller, eight samples a request; reports p99"),
    "server": Preset(None, 1, 60.0, "Poisson arrivals at --rate; reports p99"),
    "offline": Preset(64, 1, 60.0, "as fast as the server can: 64 callers; reports requests/s"),
}
EPILOG = "presets (MLPerf Inference's scenarios; they set what you leave out):\n" + "\n".join(
    f"  {name:14} {one.words}" for name, one in PRESETS.items()
)
NOTE = """\
  They differ from MLPerf in length (it asks for 600 s) and in its rule for stopping; eight samples a request come from
  --payload generate (or a file that holds eight). Nothing made with them is a result of MLPerf."""
