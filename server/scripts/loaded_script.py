"""A loaded script: the user's code with its model, ready to run calls, in the server's process or in a worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from .. import VERSION
from ..artifact import Artifact
from ..backends import cuda
from ..backends.device_session import DeviceSession
from ..errors import BrokenArtifact, DeviceLost, ModelFailed
from ..target import CPU
from .call import Call, ScriptResponse
from .class_handler import ClassHandler, find_handler
from .model_archive import MANIFEST as ARCHIVE_MANIFEST
from .model_archive import archive_in, read_config
from .onnx_model import OnnxModel
from .script_functions import ModelInfo, ScriptFunctions
from .script_module import ScriptModule, add_shims_to_path
from .tensorflow_handler import TensorFlowHandler, is_tensorflow_script, needs_model


@dataclass(frozen=True, slots=True)
class ScriptConfig:
    """How to load a script.

    ``attribute`` names the handler in the script; empty: the script's functions and classes decide. ``onnx_model``: the
    artifact holds a model that stands in for ``model_fn``. ``shims``: see
    :func:`server.scripts.script_module.add_shims_to_path`. ``batch_size``: most calls in one run, 0 for the script's
    default. ``installed``: the folder of installed requirements, empty if there is none. ``device``: the kind of device
    that the script and its model run on; the GPU is the first visible one, and the model beside the script takes at
    most ``gpu_bytes`` there, 0 for what is free. ``archive``: the script is the handler of an extracted model archive.
    """

    path: Path
    attribute: str = ""
    onnx_model: bool = False
    shims: str = "missing"
    threads: int = 1
    batch_size: int = 0
    installed: str = ""
    device: str = CPU
    gpu_bytes: int = 0
    archive: bool = False

    @property
    def gpu_id(self) -> int | None:
        """The ordinal of the GPU; None on the CPU."""
        return None if self.device == CPU else 0


class _Handler(Protocol):
    """One of the kinds of scripts: script functions, a class handler, TensorFlow handlers."""

    @property
    def most_calls(self) -> int: ...

    def run(self, calls: Sequence[Call]) -> list[ScriptResponse]: ...


class LoadedScript:
    """A script with its model. Calls may come from several threads; the script itself has to be safe for that."""

    def __init__(self, artifact: Artifact, config: ScriptConfig, gpu_lost: Callable[[int], bool] = cuda.lost) -> None:
        """Import the script and load its model. ``gpu_lost``: whether this process can never use a GPU again.

        Raises BrokenArtifact; it then releases what was loaded.
        """
        add_shims_to_path(config.shims)
        if config.installed and config.installed not in sys.path:
            sys.path.append(config.installed)
        self._onnx_model: OnnxModel | None = None
        self._gpu, self._gpu_lost = config.gpu_id, gpu_lost
        folder = artifact.root if config.archive else None
        self._module = ScriptModule(config.path, artifact.manifest.name, folder)
        try:
            with self._module.visible():
                self._handler: _Handler = self._load(artifact, config)
        except BaseException:
            self.close()
            raise

    @property
    def most_calls(self) -> int:
        """The most calls that may share a run."""
        return self._handler.most_calls

    @property
    def device_session(self) -> DeviceSession | None:
        """The session of the model beside the script, if it is on a GPU in closed shapes."""
        session = None if self._onnx_model is None else self._onnx_model.session
        return session if isinstance(session, DeviceSession) else None

    def run(self, calls: Sequence[Call]) -> list[ScriptResponse]:
        """One response for each call, in their order. Raises a failure of several calls together, and DeviceLost after
        a failure that leaves this process without its GPU: every later run would fail, too."""
        try:
            responses = self._handler.run(calls)
        except BaseException as error:
            self._require_gpu(error)
            raise
        for response in responses:
            if isinstance(response.error, (ModelFailed, DeviceLost)):
                self._require_gpu(response.error)
        return responses

    def _require_gpu(self, error: BaseException) -> None:
        if self._gpu is not None and self._gpu_lost(self._gpu):
            raise DeviceLost(
                "the GPU was lost while the script ran; its process ends, so that it is started anew"
            ) from error

    def close(self) -> None:
        """Release the script and its model."""
        self._module.close()
        self._handler = _Unloaded()
        if self._onnx_model is not None:
            self._onnx_model.close()

    def _load(self, artifact: Artifact, config: ScriptConfig) -> _Handler:
        module = self._module.module
        info = ModelInfo(artifact.manifest.name, str(artifact.root), VERSION, config.batch_size, config.gpu_id)
        if config.archive:
            return self._load_archive(artifact, config, info)
        handler = find_handler(module, config.attribute)
        if handler is not None:
            return ClassHandler(handler, info)
        tensorflow = is_tensorflow_script(module)
        if config.onnx_model and (needs_model(module) if tensorflow else not hasattr(module, "model_fn")):
            self._onnx_model = OnnxModel.open(artifact, config.threads, config.gpu_id or 0, config.gpu_bytes)
        kind = TensorFlowHandler if tensorflow else ScriptFunctions
        return kind(module, info, self._onnx_model)

    def _load_archive(self, artifact: Artifact, config: ScriptConfig, info: ModelInfo) -> _Handler:
        manifest = archive_in(artifact.root)
        handler = find_handler(self._module.module, config.attribute, ARCHIVE_MANIFEST)
        if handler is None:
            raise BrokenArtifact(
                f"{config.path.name} has neither a function handle nor a class with initialize and handle"
            )
        return ClassHandler(handler, replace(info, archive=manifest, config=read_config(artifact.root, manifest)))


class _Unloaded:
    most_calls = 1

    def run(self, calls: Sequence[Call]) -> list[ScriptResponse]:  # noqa: ARG002
        raise ModelFailed("this model has been unloaded")
