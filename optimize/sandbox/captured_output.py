"""Captured output: warnings, log records and prints of libraries, collected instead of shown."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


class _Collector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(f"{record.name}: {record.getMessage()}")


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Yield a list that receives the warnings, log records and prints of the block, in order and without duplicates.

    Exporters and quantizers print deprecation warnings that the user cannot act on. The report shows them. The list is
    filled at the end of the block, also if the block raises.
    """
    messages: list[str] = []
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
            yield messages
    finally:
        for logger, handlers in before:
            logger.handlers = handlers
        warning_lines = [f"{item.category.__name__}: {item.message}" for item in warned]
        lines = [line.strip() for line in (*warning_lines, *logged, *printed.getvalue().splitlines())]
        messages.extend(dict.fromkeys(line for line in lines if line))


def _existing_loggers() -> list[logging.Logger]:
    return [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
