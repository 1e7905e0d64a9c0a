"""Dispatch: converts a source in this process, in a sandboxed child, or in an isolated environment."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import sources
from ..errors import BadInput, LoadFailed, PassFailed
from ..evaluation.dataset import Dataset
from ..options import Options
from ..sandbox import environments, isolation, parent
from ..sandbox.isolation import StepLimits
from ..sandbox.parent import SandboxLimits
from ..search import candidates, gpu_candidates
from ..search.candidates import Candidate
from . import Kind, SourceSpec, conversion, detection
from .axes import Axis
from .conversion import Conversion, sample

HOME = Path(".cache") / "slipway" / "environments"
"""Below the user's home folder."""


def convert(
    options: Options,
    data: Dataset,
    batch_sizes: Sequence[int],
    directory: Path,
    announce: Callable[[str], None],
    seconds: float = math.inf,
) -> Conversion:
    """Detect the kind of the source, load it in the process that the kind requires, and export it into ``directory``.

    ``seconds``: the part of the budget that loading and exporting may use. Raises BadInput, ExportFailed or LoadFailed.
    """
    kind = detection.detect(options.source)
    if options.weights is not None and kind.name != "torch_factory":
        raise BadInput(f"--weights needs a module:attribute; {options.source} is {kind.about} and contains its weights")
    if options.prune and kind.name != "torch_factory":
        raise BadInput(
            f"--prune needs a module:attribute, because it changes the layers and trains them; this is {kind.about}"
        )
    request = SourceSpec(
        options.source, options.weights, options.outputs, options.dynamic, options.allow_pickle, options.fixed,
        options.arguments,
    )  # fmt: skip
    option = "--source-time" if options.source_time_s <= seconds else "--budget"
    limits = SandboxLimits(int(options.source_memory_gib * 2**30), min(seconds, options.source_time_s), option)
    announce(kind.about)
    if kind.environment:
        python = environments.interpreter(
            kind.environment, Path.home() / HOME, environments.run_command, create=options.isolated
        )
        return environments.convert(kind, request, data, batch_sizes, directory, limits, python)
    if kind.sandboxed:
        return parent.convert(kind, request, data, batch_sizes, directory, limits)
    return _in_child(kind, request, data, batch_sizes, directory, limits)


def _in_child(
    kind: Kind, request: SourceSpec, data: Dataset, batch_sizes: Sequence[int], directory: Path, limits: SandboxLimits
) -> Conversion:
    """Convert a trusted source in a child, so that a crash of native code is an error and the time limit holds."""
    rows = sample(data)
    steps = StepLimits(limits.seconds, limits.memory_bytes, limits.time_option, "--source-memory", Path.cwd())
    try:
        isolation.call(steps, _convert, kind.name, request, rows, tuple(batch_sizes), directory)
    except PassFailed as error:
        raise LoadFailed(f"{request.reference}: loading and exporting it failed: {error}") from error
    return conversion.read(directory, request.reference, rows, batch_sizes)


def _convert(kind: str, request: SourceSpec, rows: Dataset, batch_sizes: tuple[int, ...], directory: Path) -> None:
    """Convert the source and write the conversion to ``directory``, in the child."""
    source = sources.loader(sources.KINDS[kind])(request, rows)
    conversion.write(conversion.convert(source, rows, batch_sizes, directory), directory)


def compiled(options: Options) -> tuple[Candidate, ...]:
    """Return the candidate that torch compiles itself, for a module:attribute; no other source is a module here."""
    if detection.detect(options.source).name != "torch_factory":
        return ()
    from . import torch_factory

    given = {
        "factory": options.source,
        "factory_sha256": torch_factory.digest_of_code(torch_factory.resolve(options.source)),
        "weights": str(options.weights.resolve()) if options.weights else "",
        "arguments": json.dumps(dict(options.arguments), sort_keys=True),
    }
    return (gpu_candidates.compiled(given),)


def pruned(options: Options, axes: Sequence[Axis]) -> tuple[Candidate, ...]:
    """Return the candidates of ``--prune``. Raises BadInput if ``--train`` does not name an importable function."""
    if not options.prune:
        return ()
    from . import torch_factory

    train_sha256 = ""
    if options.train:
        function = torch_factory.resolve(options.train)
        if not callable(function):
            raise BadInput(f"--train {options.train} is not a function: give a function that takes the module")
        train_sha256 = torch_factory.digest_of_code(function)
    return candidates.pruned(
        options.prune,
        {
            "factory": options.source,
            "weights": str(options.weights.resolve()) if options.weights else "",
            "train": options.train,
            "train_sha256": train_sha256,
            "outputs": ",".join(options.outputs),
            "axes": ",".join(f"{axis.input}:{axis.position}={axis.name}" for axis in axes),
        },
    )
