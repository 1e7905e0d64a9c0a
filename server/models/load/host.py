"""The host check: whether a model was optimized on a host like this one."""

from __future__ import annotations

import logging

from ...artifact import Manifest
from ...errors import BrokenArtifact
from ...system import cpu

log = logging.getLogger("slipway.models")


def compare_host(manifest: Manifest) -> None:
    """Log a warning when this host is not the one that the model was optimized on.

    Raises BrokenArtifact where that would give wrong answers: weights that were packed for another processor.
    """
    differing = "; ".join(cpu.disagreements(manifest.provenance))
    if not differing:
        return
    if manifest.optimized:
        raise BrokenArtifact(
            f"{manifest.name} holds weights packed for another host ({differing}): run optimize here, or with "
            "--portable"
        )
    log.warning(
        "host differs from the one that the model was optimized on model=%s differences=%r; answers are right, but "
        "speed and the choice of the variant may differ: run optimize here",
        *(manifest.name, differing),
    )
