"""Sent models: what a client may send with a load, and how the models hold the folder of its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..artifact import Artifact
from ..errors import BrokenArtifact
from ..temporary_folder import SentFolder

SENDABLE = ("onnxruntime", "openvino")
"""Backends whose files a client may send: data that their libraries check, and no code."""


def hold(sent: Path, opened: Callable[[], Artifact]) -> Artifact:
    """The artifact that ``opened`` makes of files in the folder ``sent``, which it holds from now on.

    Raises BrokenArtifact, also for what may run code: only the server's operator brings that here.
    """
    try:
        folder = SentFolder(sent)
    except OSError as error:
        raise BrokenArtifact("the files that were sent are not here any more: load the model again") from error
    try:
        artifact = opened()
        script = artifact.script is not None and artifact.script.is_relative_to(sent)
        if script or artifact.temporary is not None or artifact.manifest.backend not in SENDABLE:
            raise BrokenArtifact(
                "only models in ONNX and OpenVINO files can be sent; copy scripts, archives, pipelines, engines and "
                "compiled models to the model folder of the server"
            )
    except BrokenArtifact as error:
        folder.remove()
        raise BrokenArtifact(str(error).replace(f"{sent}/", "")) from error  # clients are told no paths of ours
    except BaseException:
        folder.remove()
        raise
    return replace(artifact, temporary=folder)
