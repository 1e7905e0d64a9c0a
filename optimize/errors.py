"""What can go wrong while optimizing, besides what the server's errors already name."""

from __future__ import annotations

from typing import ClassVar

from server.errors import SlipwayError


class OptimizeError(SlipwayError):
    """Root of this package's errors. ``exit_code`` is what the command line ends with."""

    code = "optimize_failed"
    exit_code: ClassVar[int] = 1


class BadInput(OptimizeError):
    """An option, a file or a factory that cannot be used as given."""

    code = "bad_input"
    exit_code = 2


class ExportFailed(OptimizeError):
    """The source could not be written as an ONNX graph with a free batch axis."""

    code = "export_failed"


class NotProven(OptimizeError):
    """The exported graph does not compute what the source computes."""

    code = "not_proven"


class PassFailed(OptimizeError):
    """A pass could not produce its candidate. The candidate loses; the search goes on."""

    code = "pass_failed"


class TrackingFailed(OptimizeError):
    """The experiment record could not be written. The artifact was."""

    code = "tracking_failed"


class LoadFailed(OptimizeError):
    """The process that loads a source crashed, or went over a limit."""

    code = "load_failed"
