"""The progress line of a run, cheap enough to leave the send lag unchanged."""

from __future__ import annotations

from typing import TextIO

from .load.raw_run import Snapshot

EVERY_S = 0.25
BAR_WIDTH = 30


class ProgressLine:
    """One line on a terminal, rewritten four times a second.

    A progress bar of rich takes milliseconds on the thread that sends, which would show as send lag. This line is one
    short write.
    """

    def __init__(self, stream: TextIO, total_s: float) -> None:
        self._stream = stream
        self._total_s = total_s
        self._next_s = 0.0
        self._written = 0

    def __call__(self, now: Snapshot) -> None:
        if now.elapsed_s < self._next_s - EVERY_S:
            self._next_s = 0.0  # the next repeat
        if now.elapsed_s < self._next_s:
            return
        self._next_s = now.elapsed_s + EVERY_S
        self._write(line(now, self._total_s))

    def clear(self) -> None:
        """Remove the line before other output."""
        if self._written:
            self._write("")
            self._stream.write("\r")
            self._stream.flush()

    def _write(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._written))
        self._stream.flush()
        self._written = len(text)


def line(now: Snapshot, total_s: float) -> str:
    """The text of the line."""
    filled = round(BAR_WIDTH * min(max(now.elapsed_s / total_s, 0.0), 1.0))
    failed = f", {now.failed:,} failed" if now.failed else ""
    bar = "━" * filled + " " * (BAR_WIDTH - filled)
    return (
        f"{bar} {max(now.elapsed_s, 0.0):.1f} of {total_s:g} s  {now.ended:,} ended{failed}, {now.in_flight} in flight"
    )
