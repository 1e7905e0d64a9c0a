"""Pass: the torch source compiled ahead of time by AOTInductor, in half precision, for the GPU of this host.

It needs nothing but torch, a C++ compiler and the module itself: an ONNX file cannot take this path. The package takes
and gives float32 like the source; halves are inside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.tensors import Array

from ..errors import PassFailed
from ..sandbox import captured_output
from ..sources import torch_factory
from ..sources.torch_module import cause, tensors
from . import PassJob, PassRecord, failed, running
from .running import Running

if TYPE_CHECKING:
    import torch

EXAMPLE_ROWS = 2
"""Rows of the example: exporters often treat a batch of one as a constant."""


def apply(job: PassJob) -> PassRecord:
    """``factory``, ``weights`` and ``arguments`` (a JSON object) as the source was given; ``rows``: the closed numbers.

    Raises PassFailed where torch has no GPU, cannot export the module, or cannot compile it.
    """
    import torch

    if job.hardware.gpu is None or not torch.cuda.is_available():
        raise PassFailed(f"torch {torch.__version__} has no GPU here: install a build of torch for CUDA")
    given = {name: str(value) for name, value in job.options.items()}
    weights = Path(given["weights"]) if given["weights"] else None
    module, _ = torch_factory.build(given["factory"], weights, json.loads(given["arguments"]))
    session = running.open_session(job.reference)
    spec = session.spec
    session.close()
    axes, length = running.free_length(job.reference, job.calibration)
    rows, lengths = running.rows(job.options), running.closed_lengths(length)
    example = {one.name: job.calibration.batch(EXAMPLE_ROWS)[one.name] for one in spec.inputs}
    target = job.workdir / "model.pt2"
    with captured_output.captured() as said:
        try:
            compile_package(module, example, target, "cuda", torch.float16, rows, axes, lengths)
        except PassFailed:
            raise
        except Exception as error:
            raise failed(error, "AOTInductor") from error
    sm, version = job.hardware.gpu.sm, torch.__version__
    how = Running("torch_export", "cuda", {}, rows, axes, length, sm, {"torch": version}, spec=running.as_json(spec))
    running.mark(target, how)
    return PassRecord(target, {"to": "float16", "torch": version, "sm": sm}, tuple(said))


def compile_package(
    module: torch.nn.Module,
    example: Mapping[str, Array],
    target: Path,
    device: str,
    dtype: torch.dtype,
    rows: Sequence[int],
    axes: Mapping[str, int],
    lengths: Sequence[int],
) -> None:
    """Compile ``module`` for all ``rows`` and ``lengths`` into the package ``target``. Raises PassFailed."""
    import torch

    wrapped = lowered(module, tuple(example), dtype).to(device)
    inputs = tuple(torch.from_numpy(array.copy()).to(device) for array in example.values())
    batch = torch.export.Dim("batch", min=rows[0], max=rows[-1]) if len(rows) > 1 else None
    length = torch.export.Dim("length", min=lengths[0], max=lengths[-1]) if len(lengths) > 1 else None
    if batch is None:
        inputs = tuple(one[:1].expand(rows[0], *one.shape[1:]).contiguous() for one in inputs)
    free = {0: batch} if batch is not None else {}
    sizes = tuple({**free, **({axes[name]: length} if name in axes and length else {})} for name in example)
    try:
        program = torch.export.export(wrapped, inputs, dynamic_shapes=(sizes,))
    except Exception as error:
        raise PassFailed(f"torch cannot export the module: {cause(error)}") from error
    torch._inductor.aoti_compile_and_package(program, package_path=str(target))


def lowered(module: torch.nn.Module, names: Sequence[str], dtype: torch.dtype) -> torch.nn.Module:
    """``module`` in ``dtype``, with float32 in and out: takes tensors in the order of ``names``, gives all outputs."""
    import torch

    class Lowered(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module.to(dtype)

        def forward(self, *inputs: Any) -> Any:
            given = {
                name: one.to(dtype) if one.is_floating_point() else one for name, one in zip(names, inputs, strict=True)
            }
            return tuple(one.float() if one.is_floating_point() else one for one in tensors(self.inner(**given)))

    return Lowered().eval()
