"""The model folder that the container mounts: a folder as it is, or an unpacked archive."""

from __future__ import annotations

import tarfile
from pathlib import Path


class InvalidModel(Exception):
    """There is no such model, or the platform would refuse the archive; the message says what to do."""


def prepare(model: Path, below: Path) -> Path:
    """The folder to mount: ``model`` itself if it is a folder, else ``below`` with the content of its archive.

    Raises InvalidModel.
    """
    if model.is_dir():
        return model.resolve()
    if not model.exists():
        raise InvalidModel(f"{model}: no such file or folder; give a model folder or its model.tar.gz")
    below.mkdir(parents=True, exist_ok=True)
    if model.suffix == ".onnx":
        (below / model.name).write_bytes(model.read_bytes())
    else:
        unpack(model, below)
    return below


def unpack(archive: Path, target: Path) -> None:
    """Unpack a gzip tar. Raises InvalidModel for other files, for links, and for paths that lead out of ``target``."""
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                if member.issym() or member.islnk():
                    raise InvalidModel(
                        f"{archive}: {member.name} is a link; the platform takes files only: pack with --dereference"
                    )
            opened.extractall(target, filter="data")
    except tarfile.FilterError as error:
        raise InvalidModel(
            f"{archive}: {error}; pack the files at the top of the archive: tar -czf model.tar.gz -C DIR ."
        ) from error
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InvalidModel(f"{archive} is no gzip tar ({error}); pack it: tar -czf model.tar.gz -C DIR .") from error
