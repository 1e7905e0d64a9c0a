"""The toolkit's logger: the server's own."""

from __future__ import annotations

import logging as _logging


def get_logger() -> _logging.Logger:
    return _logging.getLogger("slipway.script")


def configure_logger() -> None:
    """Nothing to do: the server has configured its log."""
