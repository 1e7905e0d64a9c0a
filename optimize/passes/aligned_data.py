"""Aligned external data: moves the weights and packed weights of an ONNX file to offsets that vector loads can read.

ONNX Runtime writes packed weights directly after the weights. The kernels read packed weights with aligned vector
loads, so a packed weight at an odd offset ends the process with SIGSEGV.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import onnx

ALIGNMENT_BYTES = 64
"""The width of the widest vector register, and of a cache line."""

PACKED = "prepacked_"
"""Prefix of the keys of packed weights. A value is ``kernel+digest`` and one ``|offset;length;digest`` per buffer."""

CHUNK_BYTES = 1 << 24


def align(model_path: Path, alignment_bytes: int = ALIGNMENT_BYTES) -> None:
    """Rewrite the external data of ``model_path`` in place, so that every buffer starts at a multiple of the alignment.

    Raises OSError and ValueError if the file is damaged. A file without external data is not changed.
    """
    import onnx

    model = onnx.load(model_path, load_external_data=False)
    tensors = list(_external(model))
    if not tensors:
        return
    location = next(entry.value for entry in tensors[0].external_data if entry.key == "location")
    data = model_path.parent / location
    moved = data.with_name(f"{data.name}.aligned")
    with data.open("rb") as source, moved.open("wb") as target:
        for tensor in tensors:
            _move(tensor, source, target, alignment_bytes)
    model_path.write_bytes(model.SerializeToString())
    moved.replace(data)


def offsets(model_path: Path) -> list[int]:
    """Return the offsets in bytes of all weights and packed weights outside the graph."""
    import onnx

    found = []
    for tensor in _external(onnx.load(model_path, load_external_data=False)):
        for entry in tensor.external_data:
            if entry.key == "offset":
                found.append(int(entry.value))
            elif entry.key.startswith(PACKED):
                found += [int(part.split(";")[0]) for part in entry.value.split("|")[1:]]
    return found


def _external(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    import onnx

    return (tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL)


def _move(tensor: Any, source: BinaryIO, target: BinaryIO, alignment_bytes: int) -> None:
    """Copy the buffers of ``tensor`` to the end of ``target`` and record their offsets."""
    entries = {entry.key: entry for entry in tensor.external_data}
    place = _copy(source, target, int(entries["offset"].value), int(entries["length"].value), alignment_bytes)
    entries["offset"].value = str(place)
    for key, entry in entries.items():
        if key.startswith(PACKED):
            kernel, *buffers = entry.value.split("|")
            entry.value = "|".join([kernel, *(_moved(buffer, source, target, alignment_bytes) for buffer in buffers)])


def _moved(buffer: str, source: BinaryIO, target: BinaryIO, alignment_bytes: int) -> str:
    offset, length, *rest = buffer.split(";")
    place = _copy(source, target, int(offset), int(length), alignment_bytes)
    return ";".join([str(place), length, *rest])


def _copy(source: BinaryIO, target: BinaryIO, offset: int, length: int, alignment_bytes: int) -> int:
    target.write(b"\0" * (-target.tell() % alignment_bytes))
    place = target.tell()
    source.seek(offset)
    left = length
    while left:
        chunk = source.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise ValueError(f"the external data ends {left} bytes early")
        target.write(chunk)
        left -= len(chunk)
    return place
