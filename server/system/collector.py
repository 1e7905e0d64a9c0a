"""How often Python's garbage collector looks for cycles.

Python does so whenever 700 more objects exist than after the last time, and tests all that have outlived two searches
when these have grown by a quarter. A thousand connections with a request each are tens of thousands of objects that
come and go together: the searches take a tenth of the time then and find nothing, because the server makes no cycles.
"""

from __future__ import annotations

import gc
import logging

SERVING = (10_000, 10, 10)
PYTHON = gc.get_threshold()

log = logging.getLogger("slipway.system")


def search_rarely() -> None:
    """For a process that runs the server's own code."""
    gc.set_threshold(*SERVING)


def search_as_python_does() -> None:
    """For a process that also runs the code of users: its cycles may hold large arrays. It stays so."""
    if gc.get_threshold() != PYTHON:
        gc.set_threshold(*PYTHON)
        log.info("garbage is collected as often as Python does, for the code of a script thresholds=%s", PYTHON)
