"""application/x-npy and application/x-npz: NumPy's files, read without pickle.

Dtypes: the model's own, or a cast between floats, between integers, or from integers to floats, with every value in
range (NumPy users send float64 and int64 by default). Either byte order, C or Fortran order.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import IO, Any

import numpy as np

from ..errors import MalformedInput, NotAcceptable
from ..request import Head, Payload
from ..tensors import Array, ModelSpec
from . import Encoded, body_bytes
from .fitting import check_size, decode_plan, fit, with_batch_axis
from .nested import shown

_MAGIC = b"\x93NUMPY"
_MAX_EXPANDED_BYTES = 256 * 1024 * 1024
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MAX_RANK = 32
_LISTED_BYTES = 65_536
_MAX_MEMBERS = 1_000
_LISTED_MEMBER = b"PK\x01\x02"
_PIECE_BYTES = 1_000_000
_LAST_CHARACTER, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)
_MAX_REMEMBERED = 256

# The header is a Python literal. Three patterns read the forms that writers use; nothing is evaluated.
_DESCR = re.compile(rb"""['"]descr['"]\s*:\s*['"]([<>|=]?[a-zA-Z?]\d*)['"]""")
_FORTRAN = re.compile(rb"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(rb"""['"]shape['"]\s*:\s*\(([\d\s,L]{0,640})\)""")
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError,
               struct.error, OverflowError, IndexError)  # fmt: skip

_Layout = tuple["np.dtype[Any]", tuple[int, ...], bool]


class Npy:
    """One array: the single input of a model, or one output."""

    media_types: tuple[str, ...] = ("application/x-npy",)
    interpreted = False
    expanded_bytes = staticmethod(body_bytes)

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read an array, as a read-only view of the body if dtype and order are the model's. One row may lack the batch
        axis.

        Raises MalformedInput or UnprocessableInput.
        """
        plan = decode_plan(spec)
        if plan.single is None:
            raise MalformedInput("application/x-npy holds one input and the model has several; send application/x-npz")
        array = with_batch_axis(read_array(body), plan.single.spec)
        return plan.payload((fit(array, plan.single.spec),))

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:  # noqa: ARG002
        """Write the one output; strings as fixed-width Unicode. Raises NotAcceptable for several outputs."""
        chosen = payload.wanted if payload.wanted is not None else range(len(outputs))
        if len(chosen) != 1:
            raise NotAcceptable(f"application/x-npy holds one output, not {len(chosen)}; ask for application/x-npz")
        return _npy(outputs[chosen[0]]), b"application/x-npy", []


class Npz:
    """Arrays by name. A model of one input takes a single member of any name."""

    media_types: tuple[str, ...] = ("application/x-npz",)
    interpreted = False

    def __init__(self, max_expanded_bytes: int = _MAX_EXPANDED_BYTES) -> None:
        """``max_expanded_bytes`` limits the size of all members together after decompression."""
        self._max_expanded_bytes = max_expanded_bytes

    def expanded_bytes(self, body: bytes, spec: ModelSpec) -> int:  # noqa: ARG002
        """The declared size of the members; the limit for an archive that may have many, and what is no archive is as
        large as it is."""
        if len(body) > _LISTED_BYTES:
            return max(len(body), self._max_expanded_bytes)
        try:
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                return max(len(body), sum(entry.file_size for entry in archive.infolist()))
        except _BROKEN_ZIP:
            return len(body)

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read the members. Raises MalformedInput or UnprocessableInput."""
        plan = decode_plan(spec)
        members = read_members(body, self._max_expanded_bytes)
        if plan.single is not None and len(members) == 1:
            members = {plan.single.spec.name: next(iter(members.values()))}
        ordered = plan.arrange(members)
        arrays = [with_batch_axis(read_array(raw), one) for raw, one in zip(ordered, spec.inputs, strict=True)]
        return plan.payload(tuple(fit(array, one) for array, one in zip(arrays, spec.inputs, strict=True)))

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:  # noqa: ARG002
        """Write all outputs asked for, uncompressed, each under its name."""
        chosen = payload.wanted if payload.wanted is not None else range(len(outputs))
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            for index in chosen:
                # A ZipInfo without a date makes equal outputs equal bytes.
                archive.writestr(zipfile.ZipInfo(spec.outputs[index].name + ".npy"), _npy(outputs[index]))
        return body.getvalue(), b"application/x-npz", []


def read_members(body: bytes, max_expanded_bytes: int = _MAX_EXPANDED_BYTES) -> dict[str, bytes]:
    """The npy files of an npz archive by name. Raises MalformedInput, also if they expand beyond the limit together."""
    members: dict[str, bytes] = {}
    # Listing many members takes long and makes many objects. Each has this signature in the list at the end.
    if body.count(_LISTED_MEMBER) > _MAX_MEMBERS:
        raise MalformedInput(f"the archive has more than {_MAX_MEMBERS} members")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > max_expanded_bytes:
                raise MalformedInput(f"the archive expands beyond {max_expanded_bytes} bytes")
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name in members:
                    raise MalformedInput(f"input {shown(name)} is in the archive twice")
                if entry.compress_type not in _COMPRESSIONS:
                    raise MalformedInput(f"input {shown(name)} is compressed by a method that numpy never uses")
                with archive.open(entry) as member:
                    members[name] = _content(member, entry.file_size)
    except _BROKEN_ZIP as error:
        raise MalformedInput("the body is not a readable npz archive; write it with numpy.savez") from error
    return members


def _content(member: IO[bytes], size: int) -> bytes:
    """The first ``size`` bytes of a member: the declared size may be wrong. Read in pieces, since the copy of a large
    one holds the interpreter."""
    content = io.BytesIO()
    while piece := member.read(min(_PIECE_BYTES, size - content.tell())):
        content.write(piece)
    return content.getvalue()


def read_array(data: bytes) -> Array:
    """The array of an npy file, a read-only view of ``data`` in C or Fortran order. Raises MalformedInput."""
    if data[:6] != _MAGIC or len(data) < 12:
        raise MalformedInput("the body is not an npy file; write it with numpy.save")
    start, size = (
        (10, int.from_bytes(data[8:10], "little")) if data[6] == 1 else (12, int.from_bytes(data[8:12], "little"))
    )
    if data[6] not in (1, 2, 3) or start + size > len(data):
        raise MalformedInput(f"the npy file has version {data[6]} and a header of {size} bytes, which does not fit it")
    dtype, shape, fortran = _layout(data[start : start + size])
    check_size(shape)
    want, have = prod(shape) * dtype.itemsize, len(data) - start - size
    if want != have:
        raise MalformedInput(f"the npy header announces {want} bytes of values, and {have} follow it")
    array: Array = np.ndarray(shape, dtype, data, start + size, order="F" if fortran else "C")
    check_text(array)
    return array


def check_text(array: Array) -> None:
    """Raises MalformedInput for an array of text that holds numbers which are not characters: numpy reads any."""
    if array.dtype.kind != "U" or not array.size:
        return
    codes = np.array(array, array.dtype.newbyteorder("="), order="C").reshape(-1).view(np.uint32)
    if (codes > _LAST_CHARACTER).any() or ((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1])).any():
        raise MalformedInput("the npy file holds text with values that are not characters")


_layouts: dict[bytes, _Layout] = {}


def _layout(header: bytes) -> _Layout:
    """Dtype, shape and order of a header. Cached: clients repeat their headers."""
    found = _layouts.get(header)
    if found is None:
        found = _parse_layout(header)
        if len(_layouts) >= _MAX_REMEMBERED:
            _layouts.clear()
        if len(header) <= 1024:
            _layouts[header] = found
    return found


def _parse_layout(header: bytes) -> _Layout:
    descr, fortran, shape = _DESCR.search(header), _FORTRAN.search(header), _SHAPE.search(header)
    if descr is not None and descr[1].lstrip(b"<>|=").startswith(b"O"):
        raise MalformedInput(
            "the array holds Python objects, which need pickle and are never read; send strings as str_"
        )
    if descr is None or fortran is None or shape is None:
        raise MalformedInput(
            "the npy header is not understood; only plain arrays of numbers, booleans or strings are read"
        )
    try:
        dtype = np.dtype(descr[1].decode())
        sizes = tuple(int(size.rstrip(b"L")) for size in shape[1].replace(b" ", b"").split(b",") if size.strip())
    except (TypeError, ValueError) as error:
        raise MalformedInput(f"the npy header has dtype {shown(descr[1].decode())}, which is not read") from error
    if dtype.kind not in "biufUS" or dtype.itemsize == 0 or len(sizes) > _MAX_RANK:
        raise MalformedInput(f"arrays of dtype {dtype.str} and {len(sizes)} axes are not read")
    return dtype, sizes, fortran[1] == b"True"


def _npy(array: Array) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array.astype(np.str_) if array.dtype.kind == "O" else array, allow_pickle=False)
    return out.getvalue()
