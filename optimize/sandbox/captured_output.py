"""Silence: what libraries say while they work goes into a record instead of onto the user's screen."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


class _Collector(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(f"{record.name}: {record.getMessage()}")


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Collect warnings, log records and prints of the block into the list that is yielded, each said once, in order.

    The exporter and the quantizers warn about each other's deprecations and print as they go; none of it is the
    user's business unless the step fails, and all of it is in the record then. The list is filled at the end of the
    block, also when the block raises.
    """
    said: list[str] = []
    logged: list[str] = []
    printed = io.StringIO()
    handled = [logger for logger in (logging.root, *_existing_loggers()) if logger.handlers or logger is logging.root]
    before = [(logger, logger.handlers) for logger in handled]
    collector = _Collector(logged)
    for logger in handled:
        logger.handlers = [collector]
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("default")
            yield said
    finally:
        for logger, handlers in before:
            logger.handlers = handlers
        heard = [f"{item.category.__name__}: {item.message}" for item in warned]
        lines = [line.strip() for line in (*heard, *logged, *printed.getvalue().splitlines())]
        said.extend(dict.fromkeys(line for line in lines if line))


def _existing_loggers() -> list[logging.Logger]:
    return [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
