"""Weights that an ONNX file keeps beside itself: which files it names, and whether they are inside its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import BadInput

if TYPE_CHECKING:
    import onnx


def files(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """The files that the tensors of ``model``, read from ``path`` without its weights, are kept in.

    A file is input, and may name any other file of the machine as its weights; so only regular files that really lie
    in the model's own folder are accepted. Raises BadInput naming the tensor.
    """
    folder = path.resolve().parent
    found: dict[Path, None] = {}
    for tensor in _external(model.graph, model.functions):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        found[_contained(folder, tensor.name, entries)] = None
    return tuple(found)


def _contained(folder: Path, name: str, entries: dict[str, str]) -> Path:
    location = entries.get("location", "")
    pure = PurePosixPath(location)
    if not location or pure.is_absolute() or ".." in pure.parts or "\\" in location:
        raise BadInput(f"tensor {name!r} is kept in {location!r}, outside of the model's folder: that is refused")
    path = folder / pure
    if any(step.is_symlink() for step in (path, *path.parents) if step.is_relative_to(folder) and step != folder):
        raise BadInput(f"tensor {name!r} is kept in {location!r}, which is a symbolic link: put the file itself there")
    if not path.is_file():
        raise BadInput(f"tensor {name!r} is kept in {location!r}, which is not in {folder}: copy it there too")
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or 0)
    except ValueError as error:
        raise BadInput(f"tensor {name!r} has an offset or length that is no number") from error
    if offset < 0 or length < 0 or offset + length > path.stat().st_size:
        raise BadInput(f"tensor {name!r} ends beyond {location!r}: the file is damaged or belongs to another model")
    return path


def _external(graph: Any, functions: Any) -> Iterator[onnx.TensorProto]:
    import onnx

    for tensor in (*getattr(graph, "initializer", ()), *_constants(graph, functions)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor


def _constants(graph: Any, functions: Any) -> Iterator[Any]:
    """Tensors inside of nodes, and of the graphs inside of those."""
    for nodes in (graph, *functions):
        for node in nodes.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for inner in (attribute.g, *attribute.graphs):
                    yield from inner.initializer
                    yield from _constants(inner, ())
