"""Server timing: stage times in the headers of a response, and the headers that request them."""

from __future__ import annotations

from dataclasses import dataclass

STAGES = ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode")
"""The stages in a header, in the order of a request. ``send`` follows the header, so only metrics have it."""

ABOUT = ("rows", "ahead", "length", "padded", "cached")
"""What the server tells of a request beside its stages: its rows, the rows that waited in the queue when it joined, the
mean length of its rows, the length to which its run padded them, and the outcome of the response cache."""
CACHED = {"hit": 1, "shared": 2}
"""Outcomes of the response cache: answered from memory, and together with an identical request that was computed."""

MISSING = -1
NOTHING = (MISSING,) * (len(STAGES) + 1 + len(ABOUT))
"""The result of ``Carrier.read`` without stage times: the stages in ns, the batch size, then ``ABOUT``."""

Place = tuple[int, int]
"""A position in the result, and the factor of the number in the header; factor 0: a name of ``CACHED``."""
_BATCH = len(STAGES)
_OF_REQUEST: dict[str, Place] = {
    ("cache" if name == "cached" else name): (_BATCH + 1 + at, int(name != "cached")) for at, name in enumerate(ABOUT)
}
_HEADER: dict[str, dict[str, Place]] = {
    **{name: {"dur": (at, 1_000_000)} for at, name in enumerate(STAGES)},
    "batch": {"desc": (_BATCH, 1)},
    "request": _OF_REQUEST,
}
"""By metric and parameter."""
_PAIRS: dict[str, Place] = {name: (at, 1_000) for at, name in enumerate(STAGES)} | {"batch": (_BATCH, 1)} | _OF_REQUEST


@dataclass(frozen=True, slots=True)
class Carrier:
    """A way to get stage times: request headers to send, and the response header (lower case) to read."""

    name: str
    request_headers: tuple[tuple[str, str], ...]
    response_header: bytes

    def read(self, value: bytes) -> tuple[int, ...]:
        """Stage times in ns, in the order of ``STAGES``, the batch size, and ``ABOUT``; MISSING where there is none.

        Unknown names are skipped: a proxy may add its own, and a newer server may have more stages.
        """
        return _read_pairs(value) if self.name == "custom-attributes" else _read_server_timing(value)


CARRIERS = {
    "header": Carrier("header", (("X-Slipway-Timing", "1"),), b"server-timing"),
    # Amazon SageMaker passes no other header through, in either direction.
    "custom-attributes": Carrier(
        "custom-attributes",
        (("X-Amzn-SageMaker-Custom-Attributes", "slipway-timing"),),
        b"x-amzn-sagemaker-custom-attributes",
    ),
    "none": Carrier("none", (), b""),
}


def _read_server_timing(value: bytes) -> tuple[int, ...]:
    """W3C Server-Timing: ``name;dur=milliseconds;desc="text"``, metrics separated by commas."""
    found = list(NOTHING)
    for metric in value.decode("latin-1").split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        places = _HEADER.get(name)
        if places is None:
            continue
        for parameter in parameters:
            key, _, text = parameter.partition("=")
            if key in places:
                at, scale = places[key]
                found[at] = _scaled(text.strip('"'), scale)
    return tuple(found)


def _read_pairs(value: bytes) -> tuple[int, ...]:
    """``name=microseconds`` pairs separated by commas, within the 1,024 characters of Custom-Attributes."""
    found = list(NOTHING)
    for pair in value.decode("latin-1").split(","):
        name, _, text = pair.strip().partition("=")
        if name in _PAIRS:
            at, scale = _PAIRS[name]
            found[at] = _scaled(text, scale)
    return tuple(found)


def _scaled(text: str, scale: int) -> int:
    """A number times ``scale``, as an integer, or a name of ``CACHED`` for a scale of 0; MISSING for any other text."""
    if not scale:
        return CACHED.get(text, MISSING)
    try:
        scaled = float(text) * scale
        return round(scaled) if 0 <= scaled < 1e18 else MISSING
    except ValueError:
        return MISSING
