"""The errors of the update loop."""

from __future__ import annotations


class UpdateError(Exception):
    """The loop cannot run; the message says why and what to do."""


class StepFailed(Exception):
    """A step ended the update of one candidate; the serving version stays."""


class Unreachable(Exception):
    """The engine does not respond now; the step is tried again later."""
