"""The errors of the runtime API: names, status codes and members, as boto3 reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

STATUS = {
    "ValidationError": 400,
    "ModelError": 424,
    "ModelNotReadyException": 429,
    "ThrottlingException": 429,
    "InternalFailure": 500,
    "ServiceUnavailable": 503,
    "InternalDependencyException": 530,
}


@dataclass(slots=True)
class ApiError(Exception):
    """``kind`` is the name of the exception that a client catches."""

    kind: str
    message: str
    members: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    @property
    def status(self) -> int:
        return STATUS[self.kind]

    def document(self) -> dict[str, object]:
        return {"Message": self.message, **self.members}


def invalid(message: str) -> ApiError:
    """A ValidationError."""
    return ApiError("ValidationError", message)


def model_error(status: int, reason: bytes | str, endpoint: str) -> ApiError:
    """The ModelError for a response other than 2xx. ``status`` 0: no response, and ``reason`` says why."""
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
    side = "client" if 400 <= status < 500 else "server"
    members = {
        "OriginalStatusCode": status,
        "OriginalMessage": text,
        "LogStreamArn": f"arn:aws:logs:local:000000000000:log-group:/aws/sagemaker/Endpoints/{endpoint}",
    }
    return ApiError(
        "ModelError", f'Received {side} error ({status}) from the container with message "{text[:1_000]}".', members
    )
