"""The model as the platform brings it to the container: unpacked from its archive, below ``/opt/ml``."""

from __future__ import annotations

import tarfile
from pathlib import Path


class BadModel(Exception):
    """No such model, or an archive that the platform would refuse; the message says which and what to do."""


def prepare(model: Path, below: Path) -> Path:
    """The folder to be mounted: ``model`` itself where it is one, else what its archive holds, unpacked to ``below``.

    Raises BadModel.
    """
    if model.is_dir():
        return model.resolve()
    if not model.exists():
        raise BadModel(f"{model}: no such file or folder; give a model folder or its model.tar.gz")
    below.mkdir(parents=True, exist_ok=True)
    if model.suffix == ".onnx":
        (below / model.name).write_bytes(model.read_bytes())
    else:
        unpack(model, below)
    return below


def unpack(archive: Path, target: Path) -> None:
    """Raises BadModel for what is no gzip tar, links, and paths that lead out of it."""
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                if member.issym() or member.islnk():
                    raise BadModel(
                        f"{archive}: {member.name} is a link; the platform takes files only: pack with --dereference"
                    )
            opened.extractall(target, filter="data")
    except tarfile.FilterError as error:
        raise BadModel(
            f"{archive}: {error}; pack the files at the top of the archive: tar -czf model.tar.gz -C DIR ."
        ) from error
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadModel(f"{archive} is no gzip tar ({error}); pack it: tar -czf model.tar.gz -C DIR .") from error
