"""The status codes of gRPC: which one stands for each status of HTTP."""

from __future__ import annotations

import grpc

from ..request import Headers

CODES: dict[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    406: grpc.StatusCode.INVALID_ARGUMENT,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""By the statuses of ``protocols.failure``, which alone knows the classes of errors. All others are INTERNAL."""


def code_of(status: int) -> grpc.StatusCode:
    """The code of gRPC for a status of HTTP."""
    return CODES.get(status, grpc.StatusCode.INTERNAL)


def trailing(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Response headers, such as Retry-After and Server-Timing, as trailing metadata."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
