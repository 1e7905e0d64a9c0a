"""External data of ONNX files: the weight files that a graph names, restricted to the folder of the graph."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import BadInput

if TYPE_CHECKING:
    import onnx


def files(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Return the external data files of ``model``, which was read from ``path`` without its weights.

    A hostile graph could name any file of the machine as its weights. Only regular files inside the folder of the
    model are accepted. Raises BadInput naming the tensor.
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
        raise BadInput(f"tensor {name!r} is stored in {location!r}, outside the model's folder: move the file into it")
    path = folder / pure
    if any(step.is_symlink() for step in (path, *path.parents) if step.is_relative_to(folder) and step != folder):
        raise BadInput(
            f"tensor {name!r} is stored in {location!r}, which is a symbolic link: replace the link by the file"
        )
    if not path.is_file():
        raise BadInput(f"tensor {name!r} is stored in {location!r}, which is not in {folder}: copy the file there")
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or 0)
    except ValueError as error:
        raise BadInput(f"tensor {name!r} has an offset or a length that is not a number") from error
    if offset < 0 or length < 0 or offset + length > path.stat().st_size:
        raise BadInput(f"tensor {name!r} ends beyond {location!r}: the file is damaged or belongs to another model")
    return path


def _external(graph: Any, functions: Any) -> Iterator[onnx.TensorProto]:
    import onnx

    for tensor in (*getattr(graph, "initializer", ()), *_constants(graph, functions)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor


def _constants(graph: Any, functions: Any) -> Iterator[Any]:
    """Yield the tensors in the attributes of nodes, including nodes of subgraphs."""
    for nodes in (graph, *functions):
        for node in nodes.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for inner in (attribute.g, *attribute.graphs):
                    yield from inner.initializer
                    yield from _constants(inner, ())


def beside(path: Path) -> tuple[Path, ...]:
    """Return the external data files of the ONNX file ``path``. Raises BadInput."""
    import onnx

    return files(onnx.load(path, load_external_data=False), path)


def flatten(model: onnx.ModelProto) -> None:
    """Let the tensors of ``model`` name files without a folder, as :func:`place` names them."""
    for tensor in _external(model.graph, model.functions):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = _flat(entry.value)


def _flat(location: str) -> str:
    return PurePosixPath(location).as_posix().replace("/", "_")


def place(file: Path, source: Path, folder: Path) -> None:
    """Put ``file`` of ``source`` into ``folder`` without its own folder: as a hard link if possible, or as a copy."""
    target = folder / _flat(file.relative_to(source).as_posix())
    if target.exists() and target.samefile(file):
        return
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
