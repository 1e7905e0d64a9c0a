"""The errors of the monitor: each is one sentence for the user."""

from __future__ import annotations


class MonitorError(Exception):
    """The command cannot be done; the message says why and what to do."""
