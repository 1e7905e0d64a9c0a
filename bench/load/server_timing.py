"""Server timing: stage times in the headers of a response, and the headers that request them."""

from __future__ import annotations

from dataclasses import dataclass

STAGES = ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode")
"""The stages in a header, in the order of a request. ``send`` follows the header, so only metrics have it."""

MISSING = -1
NOTHING = (MISSING,) * (len(STAGES) + 1)
"""The result of ``Carrier.read`` without stage times: the stages in ns, then the batch size."""

_POSITION = {name: at for at, name in enumerate(STAGES)}
_BATCH = len(STAGES)


@dataclass(frozen=True, slots=True)
class Carrier:
    """A way to get stage times: request headers to send, and the response header (lower case) to read."""

    name: str
    request_headers: tuple[tuple[str, str], ...]
    response_header: bytes

    def read(self, value: bytes) -> tuple[int, ...]:
        """Stage times in ns, in the order of ``STAGES``, then the batch size; MISSING where the header has none.

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
        at = _BATCH if name == "batch" else _POSITION.get(name)
        if at is None:
            continue
        wanted, scale = ("desc", 1) if at == _BATCH else ("dur", 1_000_000)
        for parameter in parameters:
            key, _, text = parameter.partition("=")
            if key == wanted:
                found[at] = _scaled(text.strip('"'), scale)
    return tuple(found)


def _read_pairs(value: bytes) -> tuple[int, ...]:
    """``name=microseconds`` pairs separated by commas, within the 1,024 characters of Custom-Attributes."""
    found = list(NOTHING)
    for pair in value.decode("latin-1").split(","):
        name, _, text = pair.strip().partition("=")
        at = _BATCH if name == "batch" else _POSITION.get(name)
        if at is not None:
            found[at] = _scaled(text, 1 if at == _BATCH else 1_000)
    return tuple(found)


def _scaled(text: str, scale: int) -> int:
    """A number times ``scale``, as an integer; MISSING for a text that is no duration."""
    try:
        scaled = float(text) * scale
        return round(scaled) if 0 <= scaled < 1e18 else MISSING
    except ValueError:
        return MISSING
