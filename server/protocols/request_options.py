"""Options of a request beside its tensors: deadline, priority, stage times and custom attributes, by header or body."""

from __future__ import annotations

from math import inf

from ..errors import MalformedInput
from ..models import ServedModel
from ..request import NEVER, ORDINARY, PATIENCE_NS, Head, InferRequest
from .exchange import Exchange

TIMING = b"x-slipway-timing"
CUSTOM_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
TIMING_WORD = b"slipway-timing"
ECHO_WORD = b"slipway-echo"
MAX_ATTRIBUTES_BYTES = 1_024
SESSION_ID = b"x-amzn-sagemaker-session-id"
DEADLINE = b"x-request-deadline-ms"
PRIORITY = b"x-request-priority"
DEADLINE_NAME = "the header X-Request-Deadline-Ms"
BODY_DEADLINE = b"timeout"
"""A body without this word holds no deadline of its own."""
LOWEST_PRIORITY = 8
"""Larger numbers mean the same."""

MOST_DIGITS = 20
"""Of a priority: it is an unsigned integer of 64 bits in the protocol."""

MOST_ALLOWED = 1e12
"""A timeout of more units than these is none: no request takes weeks."""
OPTION_HEADERS = frozenset((TIMING, CUSTOM_ATTRIBUTES, DEADLINE, PRIORITY, SESSION_ID))


FORWARDED_API = b"x-amzn-sagemaker-forwarded-api"
"""The API through which the platform got the request."""


def wants_stream(head: Head) -> bool:
    """Whether the platform's client asked for a streamed response."""
    return head.get(FORWARDED_API) == b"InvokeEndpointWithResponseStream"


def needs_length(head: Head) -> bool:
    """Whether the platform takes only a response with a length: it stores the response of an asynchronous request."""
    return head.get(FORWARDED_API) == b"InvokeEndpointAsync"


def apply_options(exchange: Exchange, request: InferRequest) -> None:
    """Set the request's deadline, priority and requested headers. Raises MalformedInput for an invalid option."""
    allowed_ns = exchange.model.deadline_ns
    for name, value in exchange.head.headers:
        if name not in OPTION_HEADERS:
            continue
        if name == TIMING and value not in (b"", b"0"):
            exchange.timing_header = TIMING
        elif name == CUSTOM_ATTRIBUTES:
            _apply_attributes(exchange, value)
        elif name == SESSION_ID:
            raise MalformedInput("stateful sessions are not enabled; start the server with --sessions")
        elif name == DEADLINE:
            allowed_ns = _duration_ns(value.decode("latin-1"), DEADLINE_NAME, 1e6)
        elif name == PRIORITY:
            request.patience_ns = _patience_ns(value.decode("latin-1"))
    parameters = exchange.payload.parameters
    if parameters:
        if "timeout" in parameters:
            allowed_ns = _timeout_ns(parameters["timeout"], allowed_ns)
        if "priority" in parameters:
            request.patience_ns = _patience_ns(parameters["priority"])
    if allowed_ns:
        request.deadline_ns = exchange.head.begun_ns + allowed_ns


def header_deadline_ns(model: ServedModel, head: Head) -> int:
    """The deadline by header and settings, in nanoseconds of ``perf_counter_ns``. Raises MalformedInput."""
    given = head.get(DEADLINE)
    allowed_ns = model.deadline_ns
    if given is not None:
        allowed_ns = _duration_ns(given.decode("latin-1"), DEADLINE_NAME, 1e6)
    return head.begun_ns + allowed_ns if allowed_ns else NEVER


def _apply_attributes(exchange: Exchange, value: bytes) -> None:
    """Read the words for stage times and echo among the custom attributes.

    Raises MalformedInput beyond the platform's limits, which hold for the response too.
    """
    if len(value) > MAX_ATTRIBUTES_BYTES or not all(0x20 <= byte <= 0x7E for byte in value):
        raise MalformedInput(f"custom attributes must be at most {MAX_ATTRIBUTES_BYTES} visible ASCII characters")
    if TIMING_WORD in value:
        exchange.timing_header = exchange.timing_header or CUSTOM_ATTRIBUTES
    if ECHO_WORD in value:
        exchange.echo = value


def _patience_ns(value: object) -> int:
    """Priorities are the Open Inference Protocol's: 1 is the most urgent, 0 means the default."""
    text = str(value)
    if not (text.isascii() and text.isdecimal()) or len(text) > MOST_DIGITS:
        raise MalformedInput(f"a priority must be a whole number, 1 for the most urgent, got {text[:40]!r}")
    return min(int(text) or ORDINARY, LOWEST_PRIORITY) * PATIENCE_NS


def _timeout_ns(value: object, usual_ns: int) -> int:
    """The parameter ``timeout``, in microseconds; 0 means what holds without it. Raises MalformedInput."""
    if type(value) in (int, float) and value == 0:
        return usual_ns
    return _duration_ns(value, "the parameter timeout, in microseconds,", 1e3)


def _duration_ns(value: object, what: str, unit_ns: float) -> int:
    """A positive duration; 0, for none, where it is longer than any request. Raises MalformedInput."""
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0.0 < number < inf:
        raise MalformedInput(f"{what} must be a positive number, got {str(value)[:40]!r}")
    return max(int(number * unit_ns), 1) if number < MOST_ALLOWED else 0
