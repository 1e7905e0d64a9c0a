"""The header reader: decodes the header blocks of one connection (HPACK, RFC 7541).

Most calls of a client have the same header block, byte for byte. A block that does not change the table of the decoder
means the same until another block changes it, so its fields are kept until then. The library has the table, the
integers and the Huffman code. The loop over a block is ours: it is four times as fast, and goes on where the fields are
beyond the limit, so that only their call is refused.
"""

from __future__ import annotations

from hpack import HPACKDecodingError, HPACKError
from hpack.hpack import decode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from ..request import Headers
from .fields import FIELD_BYTES, Fields, read_fields
from .frames import COMPRESSION_ERROR, ConnectionFault

INDEXED, ADDED, RESIZED = 0x80, 0x40, 0x20
"""First bits of a field in the table, of one that is added to it, and of a new size of the table."""

HUFFMAN = 0x80
LONGEST_INTEGER = 16

TABLE_BYTES = 4_096
"""The largest table that a client may ask for: the size that every connection begins with."""

MOST_KEPT = 128
"""Blocks that are kept."""

KEPT_BYTES = 1_024
"""The largest block that is kept."""


class HeaderReader:
    """Reads blocks in the order in which they arrive."""

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes``: of all fields of a call."""
        self._max_bytes = max_bytes
        self._table = HeaderTable()
        self._kept: dict[bytes, Fields] = {}

    def read(self, block: bytes) -> Fields:
        """The fields of a block that begins a call. Raises ConnectionFault, or MalformedFields."""
        kept = self._kept.get(block)
        if kept is not None:
            return kept
        pairs, size_bytes, changed = self._decoded(block)
        fields = read_fields(pairs, size_bytes, self._max_bytes)
        if not changed and len(block) <= KEPT_BYTES:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[block] = fields
        return fields

    def skip(self, block: bytes) -> None:
        """Decode a block whose fields nobody wants: the table must be as the client has it. Raises ConnectionFault."""
        if block not in self._kept:
            self._decoded(block)

    def _decoded(self, block: bytes) -> tuple[Headers, int, bool]:
        """The fields up to the limit, the size of all, and whether the table has changed. Raises ConnectionFault."""
        pairs: Headers = []
        size_bytes, at, changed, table = 0, 0, False, self._table
        try:
            while at < len(block):
                first = block[at]
                if first & INDEXED:
                    index, at = _integer(block, at, 7)
                    name, value = table.get_by_index(index)
                elif first & ADDED:
                    name, value, at = self._literal(block, at, 6)
                    table.add(name, value)
                    changed = True
                elif first & RESIZED:
                    at = self._resize(block, at, first_field=not size_bytes)
                    changed = True
                    continue
                else:
                    name, value, at = self._literal(block, at, 4)
                size_bytes += len(name) + len(value) + FIELD_BYTES
                if size_bytes <= self._max_bytes:
                    pairs.append((name, value))
        except HPACKError as error:
            raise ConnectionFault(COMPRESSION_ERROR, "the header block cannot be decoded") from error
        if changed:
            self._kept.clear()
        return pairs, size_bytes, changed

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[bytes, bytes, int]:
        """A field whose value is not in the table, and where it ends. ``bits``: of the index of its name."""
        index, at = _integer(block, at, bits)
        if index:
            name = self._table.get_by_index(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return name, value, at

    def _resize(self, block: bytes, at: int, first_field: bool) -> int:
        """Change the size of the table; returns where the change ends."""
        size, at = _integer(block, at, 5)
        if size > TABLE_BYTES or not first_field:
            raise HPACKDecodingError("the size of the table is too large, or changes behind a field")
        self._table.maxsize = size
        return at


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """The integer in the last ``bits`` of a byte and in those that follow, and where it ends."""
    largest = (1 << bits) - 1
    value = block[at] & largest
    if value < largest:
        return value, at + 1
    value, used = decode_integer(block[at : at + LONGEST_INTEGER], bits)
    return value, at + used


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """The string that begins here, and where it ends."""
    if at >= len(block):
        raise HPACKDecodingError("a string is missing")
    size, begin = _integer(block, at, 7)
    end = begin + size
    if end > len(block):
        raise HPACKDecodingError("a string is longer than its block")
    text = block[begin:end]
    return (decode_huffman(text) if block[at] & HUFFMAN else text), end
