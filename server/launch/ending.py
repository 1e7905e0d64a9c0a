"""The end of the process: exit codes, and the end at once where threads cannot be interrupted."""

from __future__ import annotations

import logging
import os
import threading
from typing import NoReturn

STOPPED, FAILED = 0, 1


def ended(code: int) -> int:
    """The exit code, unless a script's own threads still run: the interpreter would wait for them."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        leave(code)
    return code


def leave(code: int) -> NoReturn:
    """End the process at once. Threads in native code (a load, a batch) cannot be interrupted, and must not run while
    the interpreter shuts down."""
    logging.shutdown()
    os._exit(code)
