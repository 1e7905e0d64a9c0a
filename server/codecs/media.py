"""Media types: parsing, the table of codecs, and content negotiation (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import NotAcceptable, UnsupportedMedia
from . import Codec
from .csv import Csv
from .json import Json
from .jsonlines import JsonLines
from .numpy import Npy, Npz
from .open_inference import OpenInference
from .recordio_protobuf import RecordIOProtobuf
from .single_values import Bytes, Text

MAX_EXPANDED_BYTES = 256 * 1024 * 1024


def codecs(max_expanded_bytes: int = MAX_EXPANDED_BYTES) -> tuple[Codec, ...]:
    """All codecs; the first one that fits wins if a client has no preference.

    ``max_expanded_bytes`` limits the arrays of a compressed or sparse body.
    """
    return (
        *(Json(), Csv(), Npy(), Npz(max_expanded_bytes), JsonLines(), RecordIOProtobuf(max_expanded_bytes)),
        *(OpenInference(), Text(), Bytes()),
    )


CODECS = codecs()

ONLY_READ: Mapping[str, Codec] = dict.fromkeys(("image/jpeg", "image/png", "image/webp"), Bytes())
"""Media types of images: read as bytes, never written."""

LINES = (Csv, JsonLines)

DEFAULT_ACCEPT = "application/json"
_MAX_REMEMBERED = 1024
_MAX_HEADER_BYTES = 512


@dataclass(frozen=True, slots=True)
class MediaType:
    """``name`` is ``type/subtype`` in lower case; so are the parameters' names. Values keep their case."""

    name: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The codec that reads the body, the parameters of its media type, and the codec that writes the response.

    ``lines``: whether the response has one line a row, which can be streamed.
    """

    reader: Codec
    parameters: Mapping[str, str]
    writer: Codec
    lines: bool


def parse_media_type(text: str) -> MediaType:
    """Name and parameters of a media type such as ``text/csv; charset="utf-8"``. Raises ValueError for other text."""
    first, *rest = _split(text, ";")
    name = first.strip().lower()
    kind, slash, subtype = name.partition("/")
    if not slash or not _is_token(kind) or not _is_token(subtype):
        raise ValueError(f"not a media type: {text!r}")
    parameters: dict[str, str] = {}
    for item in rest:
        if item.strip():
            key, equals, value = item.strip().partition("=")
            if not equals or not _is_token(key):
                raise ValueError(f"not a parameter of a media type: {item!r}")
            parameters[key.lower()] = _unquoted(value)
    return MediaType(name, parameters)


class Negotiator:
    """Chooses codecs by headers, and caches its choices: on the hot path a choice is one look-up."""

    def __init__(
        self,
        codecs: Sequence[Codec] = CODECS,
        default_content_type: str | None = None,
        default_accept: str = DEFAULT_ACCEPT,
    ) -> None:
        """``default_content_type`` replaces a missing Content-Type, ``default_accept`` a missing Accept or ``*/*``.

        Raises UnsupportedMedia or NotAcceptable if no codec serves these defaults.
        """
        self._codecs = {name: codec for codec in reversed(codecs) for name in codec.media_types}
        self._names = [name for codec in codecs for name in codec.media_types]
        self._default_content_type = default_content_type
        self._default = self._first_named(default_accept)
        if default_content_type is not None:
            self.reader(None, default_content_type)
        self._remembered: dict[tuple[bytes | None, bytes | None], Negotiated] = {}

    def negotiate(self, content_type: bytes | None, accept: bytes | None) -> Negotiated:
        """The codecs of a request. Raises UnsupportedMedia or NotAcceptable if there is none."""
        found = self._remembered.get((content_type, accept))
        return found if found is not None else self._negotiate(content_type, accept)

    def _negotiate(self, content_type: bytes | None, accept: bytes | None) -> Negotiated:
        codec, parameters = self.reader(content_type, self._default_content_type)
        writer = self.writer(accept)
        found = Negotiated(codec, parameters, writer, isinstance(writer, LINES))
        if len(self._remembered) >= _MAX_REMEMBERED:  # clients choose the keys
            self._remembered.clear()
        if len(content_type or b"") + len(accept or b"") <= _MAX_HEADER_BYTES:
            self._remembered[content_type, accept] = found
        return found

    def reader(self, content_type: bytes | None, default: str | None) -> tuple[Codec, Mapping[str, str]]:
        """The codec for a Content-Type, and the type's parameters. Raises UnsupportedMedia."""
        text = content_type.decode("latin-1").strip() if content_type else ""
        if not text:
            if default is None:
                raise UnsupportedMedia(f"Content-Type is missing; supported are {self._supported()}")
            text = default
        try:
            media = parse_media_type(text)
            return self._codecs.get(media.name) or ONLY_READ[media.name], media.parameters
        except (ValueError, KeyError) as error:
            raise UnsupportedMedia(f'Content-Type "{_cut(text)}" is not supported; {self._supported()} are') from error

    def writer(self, accept: bytes | None) -> Codec:
        """The codec that an Accept header prefers. Ties go to the type that it names first, wildcards to the default.

        Raises NotAcceptable.
        """
        text = accept.decode("latin-1").strip() if accept else ""
        if text in ("", "*/*"):
            return self._default
        accepted = ranges(text)
        candidates = [
            (self._default.media_types[0], self._default),
            *((name, self._codecs[name]) for name in self._names),
        ]
        best, best_rank = None, (0.0, 0, 0)
        for name, codec in candidates:
            rank = _rank(name, accepted)
            if rank[0] > 0 and rank > best_rank:
                best, best_rank = codec, rank
        if best is None:
            raise NotAcceptable(f'Accept "{_cut(text)}" cannot be served; {self._supported()} can')
        return best

    def _first_named(self, default_accept: str) -> Codec:
        """The first known type of the default, which may be a list, as in the platform's environment variable."""
        for item in default_accept.split(","):
            codec = self._codecs.get(item.partition(";")[0].strip().lower())
            if codec is not None:
                return codec
        raise NotAcceptable(f'the default Accept "{_cut(default_accept)}" cannot be served; {self._supported()} can')

    def _supported(self) -> str:
        return ", ".join(self._names)


def ranges(accept: str) -> list[tuple[str, float]]:
    """The media ranges of an Accept header with their weights. An invalid range is ignored."""
    found = []
    for item in _split(accept, ","):
        try:
            media = parse_media_type(item)
            weight = float(media.parameters.get("q", "1"))
        except ValueError:
            continue
        if 0.0 <= weight <= 1.0:
            found.append((media.name, weight))
    return found


def _rank(name: str, ranges: list[tuple[str, float]]) -> tuple[float, int, int]:
    """Weight by the most specific range that matches, then how specific it is, then how early it was named."""
    kind = name.partition("/")[0]
    best: tuple[int, int, float] | None = None
    for place, (pattern, weight) in enumerate(ranges):
        specific = 2 if pattern == name else 1 if pattern == f"{kind}/*" else 0 if pattern == "*/*" else -1
        if specific >= 0 and (best is None or specific > best[0]):
            best = (specific, -place, weight)
    return (best[2], best[0], best[1]) if best is not None else (0.0, 0, 0)


def _split(text: str, separator: str) -> list[str]:
    """Split outside quoted strings."""
    if '"' not in text:
        return text.split(separator)
    parts, start, quoted, index = [], 0, False, 0
    while index < len(text):
        character = text[index]
        if quoted and character == "\\":
            index += 1
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:index])
            start = index + 1
        index += 1
    return [*parts, text[start:]]


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    if len(value) < 2 or not value.endswith('"'):
        raise ValueError(f"a quoted string that does not end: {value!r}")
    inner = iter(value[1:-1])
    return "".join(next(inner, "") if character == "\\" else character for character in inner)


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and not any(c.isspace() or c in '()<>@,;:\\"/[]?={}' for c in text)


def _cut(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"
