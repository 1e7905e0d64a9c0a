"""Progress display: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

Clock = Callable[[], float]
"""Returns seconds since a fixed moment."""

EVERY_S = 5.0
"""Seconds between two progress lines in a log."""


class Stage:
    """One displayed step. ``result`` is shown when the step ends."""

    def __init__(self, live: Progress | None, task: TaskID | None, console: Console, clock: Clock) -> None:
        self.result = ""
        self._live = live
        self._task = task
        self._console = console
        self._clock = clock
        self._printed_s = clock()

    def say(self, detail: str) -> None:
        """Show the current item."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, detail=detail)
        else:
            self._console.print(f"  {detail}", highlight=False, markup=False)

    def count(self, done: int, total: int) -> None:
        """Show the number of finished items."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, total=total)
        elif self._clock() - self._printed_s >= EVERY_S:
            self._printed_s = self._clock()
            self._console.print(f"  {done} of {total}", highlight=False)


class Display:
    """Shows the stages of a run, one after the other."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self.console = console
        self._clock = clock

    def warn(self, text: str) -> None:
        """Print a warning between two stages."""
        self.console.print(f"warning: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """Show ``title`` while the block runs, then the result of the stage and its duration in seconds."""
        started = self._clock()
        if not self.console.is_terminal:
            self.console.print(title, highlight=False, markup=False)
            stage = Stage(None, None, self.console, self._clock)
            yield stage
            self.console.print(f"  {self._summary(stage, started)}", highlight=False, markup=False)
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
        with Progress(*columns, TextColumn("[dim]{task.fields[detail]}"), console=self.console, transient=True) as live:
            stage = Stage(live, live.add_task(title, total=None, detail=""), self.console, self._clock)
            yield stage
        self.console.print(f"[green]✓[/] {title}  [dim]{self._summary(stage, started)}[/]", highlight=False)

    def _summary(self, stage: Stage, started: float) -> str:
        seconds = f"{self._clock() - started:.1f} s"
        return f"{stage.result}, {seconds}" if stage.result else seconds
