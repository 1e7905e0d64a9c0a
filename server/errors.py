"""The errors of requests, models and start-up, as exceptions with stable codes.

``protocols.failure`` maps each class to its HTTP status, in one place.
"""

from __future__ import annotations

from typing import ClassVar


class SlipwayError(Exception):
    """Root of the server's errors.

    ``str(error)`` is written for the client: what was wrong, where, and what to do. It never holds a path of the
    server, a traceback or another client's data.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class MalformedInput(SlipwayError):
    """The body does not parse as its media type, or does not fit the model's inputs."""

    code = "malformed_input"


class UnknownModel(SlipwayError):
    """No model, or no version of it, by that name."""

    code = "unknown_model"


class NotAcceptable(SlipwayError):
    """No codec can write what ``Accept`` asks for, or not these outputs."""

    code = "not_acceptable"


class SlowRequest(SlipwayError):
    """The client did not finish sending its request in time."""

    code = "slow_request"
    retryable = True


class AlreadyLoaded(SlipwayError):
    """The model is loaded already, or being loaded or unloaded."""

    code = "already_loaded"


class BodyTooLarge(SlipwayError):
    """The body exceeds the configured limit."""

    code = "body_too_large"


class HeadTooLarge(SlipwayError):
    """The head, its number of fields, or the trailers exceed the limit."""

    code = "head_too_large"


class UrlTooLong(SlipwayError):
    """The URL exceeds its limit."""

    code = "url_too_long"


class UnsupportedVersion(SlipwayError):
    """The request line names a version of HTTP that is not served."""

    code = "unsupported_version"


class Unauthorized(SlipwayError):
    """The request lacks an API key, or the token of the admin routes."""

    code = "unauthorized"


class Forbidden(SlipwayError):
    """The request comes from a web page of another origin, or names another host."""

    code = "forbidden"


class ServerFull(SlipwayError):
    """Received bytes, or connections, are at the limit of the process."""

    code = "server_full"
    retryable = True


class UnsupportedMedia(SlipwayError):
    """No codec reads this media type or content encoding."""

    code = "unsupported_media_type"


class UnprocessableInput(SlipwayError):
    """The values have the right shape and type, but the model cannot compute with them (NaN, out of range)."""

    code = "unprocessable_input"


class Overloaded(SlipwayError):
    """Admission refused the request: the predicted finish is too late, or the queue is full.

    ``retry_after_s`` is the predicted time until the same request would be admitted, in whole seconds, at least 1.
    """

    code = "overloaded"
    retryable = True

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClientGone(SlipwayError):
    """The client left before its answer was ready. Counted, never sent."""

    code = "client_gone"


class ModelFailed(SlipwayError):
    """The model failed on this input, or its device failed."""

    code = "model_failed"


class NotReady(SlipwayError):
    """Not loaded yet, or draining."""

    code = "not_ready"
    retryable = True


class DeviceLost(NotReady):
    """The GPU failed in such a way that this process can never use it again."""

    code = "device_lost"


class DeadlineExceeded(SlipwayError):
    """The deadline of the request passed before its response was ready."""

    code = "deadline_exceeded"
    retryable = True


class LoadTimedOut(SlipwayError):
    """A model did not load within ``--load-timeout-s``."""

    code = "load_timed_out"


class OutOfMemory(SlipwayError):
    """Not enough memory for this model or this batch."""

    code = "out_of_memory"
    retryable = True


class BrokenArtifact(SlipwayError):
    """A model directory cannot be served: the message names the fault and the file."""

    code = "broken_artifact"


class NoSuchArtifact(BrokenArtifact):
    """No file or directory exists at the path of the model."""

    code = "no_such_artifact"


class BadSetting(SlipwayError):
    """A setting does not exist or has an impossible value."""

    code = "bad_setting"


CLIENT_ERRORS = (MalformedInput, UnprocessableInput, UnsupportedMedia, NotAcceptable)
"""Faults of a request that a model or a script finds: no failure of the model, and nothing for an operator to do."""


def release(error: BaseException) -> None:
    """Let go of the frames that an ended error has passed: they hold the body of the request, and often the error
    itself, which would keep all of it until the garbage collector's next full run."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            one.__traceback__ = None
            waiting += (one.__cause__, one.__context__)
