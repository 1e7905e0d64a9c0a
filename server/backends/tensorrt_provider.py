"""The options of ONNX Runtime's TensorRT provider: where its engines are kept, and the shapes they are built for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path

from ..tensors import ModelSpec, TensorSpec
from . import BackendOptions
from .device_session import open_axes

FOLDER = "slipway-tensorrt"
PROFILE = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")


def provider_options(options: BackendOptions, ordinal: int, stream: int, fp16: bool, folder: Path) -> dict[str, str]:
    """The provider's options, as its documentation names them.

    ``folder`` gets the engines, so that a restart does not build them again, and the timing cache, so that another
    build measures less. ``fp16``: whether the engine may compute in half precision where the graph says float32.
    """
    return {
        "device_id": str(ordinal),
        "user_compute_stream": str(stream),
        "trt_fp16_enable": str(int(fp16)),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        **profile(options),
    }


def profile(options: BackendOptions) -> dict[str, str]:
    """One profile for all closed buckets, tuned for the largest; empty where the shapes are not known before the load.

    Without one the provider builds an engine anew whenever a run exceeds the shapes that it has seen. A single row is
    within the profile: models whose rows depend on each other run numbers of rows that are no bucket.
    """
    spec, shapes = options.spec, options.shapes
    if spec is None or shapes is None or open_axes(spec, options.padding):
        return {}
    lengths = shapes.lengths or (0,)
    least, most = (1, lengths[0]), (shapes.rows[-1], lengths[-1])
    free = [one for one in spec.inputs if -1 in one.shape]
    texts = [
        ",".join(f"{one.name}:{'x'.join(map(str, _shape(one, spec, options, *bucket)))}" for one in free)
        for bucket in (least, most)
    ]
    return dict(zip(PROFILE, (texts[0], texts[1], texts[1]), strict=True)) if free else {}


def _shape(one: TensorSpec, spec: ModelSpec, options: BackendOptions, rows: int, length: int) -> list[int]:
    shape = list(one.shape)
    if spec.batchable:
        shape[0] = rows
    if options.padding is not None and one.name in options.padding.inputs:
        shape[options.padding.inputs[one.name][0]] = length
    return shape


def engine_folder(path: Path, made_from: dict[str, str], root: Path | None = None) -> Path:
    """The folder for the engines of a file and of these options; it exists and belongs to this user alone.

    The provider does not look at the weights when it looks for an engine: so the name holds a digest of the file, and
    of size and time of the files beside it, which may hold its weights. ``root``: the temporary folder by default.
    A folder that others may write to is not used, because an engine is code: then a new one is made for this process.
    """
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode())
    with path.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    for beside in sorted(path.parent.iterdir()):
        found = beside.stat()
        if beside != path and stat.S_ISREG(found.st_mode):
            digest.update(f"{beside.name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode(errors="surrogateescape"))
    top = (root or Path(tempfile.gettempdir())) / f"{FOLDER}-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        top.mkdir(mode=0o700)
    if not _ours(top):
        top = Path(tempfile.mkdtemp(prefix=f"{FOLDER}-", dir=root))
    folder = top / digest.hexdigest()[:32]
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _ours(folder: Path) -> bool:
    """Whether a folder is no link, belongs to this user, and nobody else may write to it."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
