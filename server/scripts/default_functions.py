"""Media types of scripts: what they are told of a request, and the default ``input_fn`` and ``output_fn``.

The defaults follow the rules of the SageMaker inference toolkit where these are right; where it answers 500 to what is
the caller's fault, they raise what becomes the right code.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from ..codecs.media import parse_media_type
from ..errors import MalformedInput, NotAcceptable, UnprocessableInput, UnsupportedMedia

JSON, CSV, NPY, NPZ = "application/json", "text/csv", "application/x-npy", "application/x-npz"
TEXT = (JSON, CSV)
"""The types whose bodies a script gets as ``str``: scripts depend on it. All others are ``bytes``."""

ANY = "*/*"


def media_of(header: bytes | None, default: str) -> tuple[str | None, str]:
    """The media type of a body, lower case and without parameters (None: not named), and its charset.

    What cannot be parsed is passed on as it is: it is for the script to judge.
    """
    text = header.decode("latin-1").strip() if header else default
    if not text:
        return None, "utf-8"
    try:
        media = parse_media_type(text)
    except ValueError:
        return text, "utf-8"
    return media.name, media.parameters.get("charset", "utf-8")


def accepted(header: bytes | None, default: str) -> str:
    """The one type that a script is asked for: the best weighted of ``Accept``, the default where it is left open."""
    text = header.decode("latin-1").strip() if header else ANY
    return next((name for name in _by_weight(text) if "*" not in name), _by_weight(default)[0])


def text_of(body: bytes, content_type: str | None, charset: str) -> str | bytes:
    """A body as scripts get it. Raises MalformedInput when it is not in its charset."""
    if content_type not in TEXT:
        return body
    try:
        return body.decode(charset)
    except LookupError as error:
        raise MalformedInput(f"charset {charset[:40]!r} is not known; send utf-8") from error
    except UnicodeDecodeError as error:
        raise MalformedInput(f"the body is not {charset}: byte {error.start} is {body[error.start]:#04x}") from error


def decode(body: str | bytes, content_type: str | None) -> Any:
    """The default ``input_fn``: JSON, CSV, npy or npz to arrays.

    A JSON list becomes an array, and so does what ``instances`` or ``inputs`` hold; another object stays one. CSV is
    always two-dimensional: int64 where all are whole numbers, else float64, else text. npz gives arrays by name.
    Raises UnsupportedMedia or MalformedInput.
    """
    if content_type == JSON:
        return _from_json(body)
    if content_type == CSV:
        return _from_csv(body if isinstance(body, str) else body.decode())
    if content_type in (NPY, NPZ) and isinstance(body, bytes):
        return _from_numpy(body, content_type)
    said = f'Content-Type "{content_type[:100]}" is not supported' if content_type else "Content-Type is missing"
    raise UnsupportedMedia(f"{said}; without an input_fn {JSON}, {CSV}, {NPY} and {NPZ} are")


def encode(prediction: Any, accept: str) -> tuple[bytes, str]:
    """The default ``output_fn``: the body and its type. Raises NotAcceptable."""
    for name in _by_weight(accept):
        if name in (JSON, ANY, "application/*"):
            return to_json(prediction), JSON
        if name in (CSV, "text/*"):
            return _to_csv(prediction), CSV
        if name == NPY:
            return _to_npy(prediction), NPY
    raise NotAcceptable(f'Accept "{accept[:100]}" cannot be served; without an output_fn {JSON}, {CSV} and {NPY} can')


def _by_weight(accept: str) -> list[str]:
    """Media types of an Accept header, the best first; what is no media type is left out unless it is all there is."""
    weighted = []
    for item in accept.split(","):
        try:
            media = parse_media_type(item)
            weight = float(media.parameters.get("q", "1"))
        except ValueError:
            continue
        if weight > 0:
            weighted.append((-weight, media.name))
    return [name for _, name in sorted(weighted, key=lambda pair: pair[0])] or [accept.strip()]


def _from_json(body: str | bytes) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedInput(f"the body is not JSON: {error}") from error
    if isinstance(document, dict):
        named = [key for key in ("instances", "inputs") if isinstance(document.get(key), list)]
        if len(named) != 1:
            return document
        document = document[named[0]]
        if document and isinstance(document[0], dict):
            return document
    try:
        return np.array(document)
    except ValueError as error:
        raise MalformedInput("the JSON list is ragged: all rows need the same shape") from error


def _from_csv(text: str) -> Any:
    lines = text.lstrip("\ufeff").replace("\r\n", "\n").strip("\n").split("\n")
    if lines == [""]:
        raise MalformedInput("the body is empty; send one line a row")
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    for index, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise MalformedInput(f"row {index} has {len(row)} values, row 0 has {len(rows[0])}")
    for dtype in (np.int64, np.float64):
        try:
            return np.array(rows).astype(dtype)
        except (ValueError, OverflowError):
            continue
    return np.array(rows, object)


def _from_numpy(body: bytes, content_type: str) -> Any:
    """Never with pickles in it: a pickle runs code."""
    try:
        loaded = np.load(io.BytesIO(body), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise MalformedInput(f"the body cannot be read as {content_type}; arrays of objects are refused") from error


def to_json(prediction: Any) -> bytes:
    """NaN and infinity, for which JSON has no word, become null."""
    try:
        return orjson.dumps(prediction, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise UnprocessableInput(
            f"a prediction of type {type(prediction).__name__} cannot be written as JSON"
        ) from error


def _plain(value: Any) -> Any:
    """What the writer does not know by itself: arrays of other dtypes or layouts, scalars, sets."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _to_csv(prediction: Any) -> bytes:
    array = _array(prediction)
    if array.ndim not in (1, 2):
        raise NotAcceptable(f"{CSV} holds one or two axes, not {array.ndim}; ask for {JSON}")
    rows = array.reshape(-1, 1) if array.ndim == 1 else array
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows.tolist()).encode()


def _cell(value: Any) -> str:
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text


def _to_npy(prediction: Any) -> bytes:
    stream = io.BytesIO()
    try:
        np.save(stream, _array(prediction), allow_pickle=False)
    except ValueError as error:
        raise NotAcceptable(f"{NPY} cannot hold this prediction; ask for {JSON}") from error
    return stream.getvalue()


def _array(prediction: Any) -> Any:
    try:
        return np.asarray(prediction)
    except ValueError as error:
        raise NotAcceptable(f"the prediction is ragged: ask for {JSON}") from error
