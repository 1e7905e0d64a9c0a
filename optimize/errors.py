"""The errors of optimize."""

from __future__ import annotations

from typing import ClassVar

from server.errors import SlipwayError


class OptimizeError(SlipwayError):
    """The base class. ``exit_code`` is the exit code of the command, ``remedy`` what the user can do instead."""

    code = "optimize_failed"
    exit_code: ClassVar[int] = 1
    remedy: ClassVar[str] = ""


class BadInput(OptimizeError):
    """An option, a file or a factory is unusable."""

    code = "bad_input"
    exit_code = 2


class NoTarget(OptimizeError):
    """This host lacks the device that was asked for, or the libraries for it."""

    code = "no_target"
    exit_code = 3


class ExportFailed(OptimizeError):
    """The source cannot be written as an ONNX graph with a free batch axis."""

    code = "export_failed"


class NotProven(OptimizeError):
    """The outputs of the exported graph differ from the outputs of the source."""

    code = "not_proven"
    remedy = "serve the original model with a script: code/inference.py (docs/scripts.md)"


class PassFailed(OptimizeError):
    """A pass failed to build its candidate. The search continues without it."""

    code = "pass_failed"


class TrackingFailed(OptimizeError):
    """Writing the experiment record failed. The artifact is complete."""

    code = "tracking_failed"


class LoadFailed(OptimizeError):
    """The process that loads a source crashed or exceeded a limit."""

    code = "load_failed"
