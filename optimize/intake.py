"""The intake: from what the user named to a conversion, in this process, a confined one, or an environment's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from . import confinement, conversion, environments, sources
from .confinement import Limits
from .conversion import Conversion
from .dataset import Dataset
from .errors import BadInput
from .options import Options
from .sources import Request, detection

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
