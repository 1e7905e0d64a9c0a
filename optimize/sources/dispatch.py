"""The intake: from what the user named to a conversion, in this process, a confined one, or an environment's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .. import sources
from ..errors import BadInput
from ..evaluation.dataset import Dataset
from ..options import Options
from ..sandbox import environments
from ..sandbox import parent as confinement
from ..sandbox.parent import Limits
from ..search import candidates
from ..search.candidates import Candidate
from . import Request, conversion, detection
from .axes import Axis
from .conversion import Conversion

HOME = Path(".cache") / "slipway" / "environments"
"""Below the user's home folder."""


def convert(
    options: Options, data: Dataset, batch_sizes: Sequence[int], directory: Path, announce: Callable[[str], None]
) -> Conversion:
    """Find out what kind of model it is, load it where that kind belongs, and export it into ``directory``.

    Raises BadInput, ExportFailed or LoadFailed.
    """
    kind = detection.detect(options.source)
    if options.weights is not None and kind.name != "torch_factory":
        raise BadInput(f"--weights belongs to a module:attribute; {options.source} is {kind.about}, with its weights")
    if options.prune and kind.name != "torch_factory":
        raise BadInput(f"--prune needs a module:attribute, whose layers can be cut and trained; this is {kind.about}")
    request = Request(options.source, options.weights, options.outputs, options.dynamic, options.allow_pickle)
    limits = Limits(int(options.source_memory_gib * 2**30), options.source_time_s)
    announce(kind.about)
    if kind.environment:
        python = environments.interpreter(
            kind.environment, Path.home() / HOME, environments.run_command, create=options.isolated
        )
        return environments.convert(kind, request, data, batch_sizes, directory, limits, python)
    if kind.confined:
        return confinement.convert(kind, request, data, batch_sizes, directory, limits)
    return conversion.convert(sources.loader(kind)(request, data), data, batch_sizes, directory)


def pruned(options: Options, axes: Sequence[Axis]) -> tuple[Candidate, ...]:
    """What ``--prune`` adds to the candidates. Raises BadInput when ``--train`` is no function that can be imported."""
    if not options.prune:
        return ()
    from . import torch_factory

    train_sha256 = ""
    if options.train:
        function = torch_factory.resolve(options.train)
        if not callable(function):
            raise BadInput(f"--train {options.train} is no function: it is called with the module to train")
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
