"""Dispatch: converts a source in this process, in a sandboxed child, or in an isolated environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .. import sources
from ..errors import BadInput
from ..evaluation.dataset import Dataset
from ..options import Options
from ..sandbox import environments, parent
from ..sandbox.parent import SandboxLimits
from ..search import candidates
from ..search.candidates import Candidate
from . import SourceSpec, conversion, detection
from .axes import Axis
from .conversion import Conversion

HOME = Path(".cache") / "slipway" / "environments"
"""Below the user's home folder."""


def convert(
    options: Options, data: Dataset, batch_sizes: Sequence[int], directory: Path, announce: Callable[[str], None]
) -> Conversion:
    """Detect the kind of the source, load it in the process that the kind requires, and export it into ``directory``.

    Raises BadInput, ExportFailed or LoadFailed.
    """
    kind = detection.detect(options.source)
    if options.weights is not None and kind.name != "torch_factory":
        raise BadInput(f"--weights needs a module:attribute; {options.source} is {kind.about} and contains its weights")
    if options.prune and kind.name != "torch_factory":
        raise BadInput(
            f"--prune needs a module:attribute, because it changes the layers and trains them; this is {kind.about}"
        )
    request = SourceSpec(options.source, options.weights, options.outputs, options.dynamic, options.allow_pickle)
    limits = SandboxLimits(int(options.source_memory_gib * 2**30), options.source_time_s)
    announce(kind.about)
    if kind.environment:
        python = environments.interpreter(
            kind.environment, Path.home() / HOME, environments.run_command, create=options.isolated
        )
        return environments.convert(kind, request, data, batch_sizes, directory, limits, python)
    if kind.sandboxed:
        return parent.convert(kind, request, data, batch_sizes, directory, limits)
    return conversion.convert(sources.loader(kind)(request, data), data, batch_sizes, directory)


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
