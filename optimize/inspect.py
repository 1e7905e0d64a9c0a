"""An artifact looked at again: its table on the terminal, and whether it still computes what it did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from server import artifact
from server.artifact import Artifact, Manifest
from server.backends import BackendOptions, loader
from server.errors import BrokenArtifact

from . import hardware
from .package import largest_difference

SLACK = 2.0
"""How many times the recorded difference is still the same model: other processors round int8 sums elsewhere."""

FLOAT_NOISE = 1e-4
"""The difference that any two machines may show, relative to the largest value of the outputs."""


@dataclass(frozen=True, slots=True)
class Verified:
    """``difference``: the largest against the recorded outputs, of ``allowed``. ``warnings``: what to know besides."""

    difference: float
    allowed: float
    rows: int
    warnings: tuple[str, ...]


def table(manifest: Manifest) -> Table:
    """The candidates as a table for the terminal."""
    evidence = manifest.evidence
    rows = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("candidate", evidence["metric"]["name"], "speed-up", "verdict"):
        rows.add_column(head, justify="right" if head in (evidence["metric"]["name"], "speed-up") else "left")
    for row in evidence["candidates"]:
        accuracy, speed = row["accuracy"], row["speed_up"]
        rows.add_row(
            row["name"],
            f"{accuracy['score']['value']:.4f}" if accuracy else "-",
            f"{speed['value']:.2f}x" if speed else "-",
            row["reason"],
            style="bold green" if row["chosen"] else "",
        )
    return rows


def has_evidence(manifest: Manifest) -> bool:
    """Whether the manifest was written by a search; others have nothing to show."""
    return bool(manifest.evidence.get("candidates"))


def verify(path: Path) -> Verified:
    """Check every digest, then run the samples and compare with the reference's recorded answers.

    Raises BrokenArtifact: a file differs, there are no samples, or the answers are further away than they were when
    the artifact was made (twice that, and float noise).
    """
    found = artifact.read(path)
    artifact.verify(found)
    inputs, expected = _samples(found)
    threads = found.manifest.batching.threads if found.manifest.batching else 1
    session = loader(found.manifest.backend)(found.model_path, BackendOptions(threads))
    try:
        answers = session.run([inputs[spec.name] for spec in session.spec.inputs])
        difference = largest_difference(answers, [expected[spec.name] for spec in session.spec.outputs])
    except KeyError as error:
        raise BrokenArtifact(f"{artifact.SAMPLES} has nothing for {error.args[0]!r}") from error
    finally:
        session.close()
    scale = max(1.0, *(float(np.max(np.abs(array), initial=0.0)) for array in expected.values()))
    recorded = float(found.manifest.evidence.get("samples", {}).get("max_abs_difference", 0.0))
    allowed = SLACK * recorded + FLOAT_NOISE * scale
    if not difference <= allowed:
        raise BrokenArtifact(f"the samples differ from the reference by {difference:.3g}, more than {allowed:.3g}")
    rows = len(next(iter(inputs.values())))
    return Verified(difference, allowed, rows, _warnings(found.manifest))


def _samples(found: Artifact) -> tuple[dict[str, Any], dict[str, Any]]:
    path = found.root / artifact.SAMPLES
    if not path.is_file():
        raise BrokenArtifact(f"no {artifact.SAMPLES} in {found.root}: there is nothing to compare with")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    groups = [
        {n.removeprefix(kind): a for n, a in arrays.items() if n.startswith(kind)} for kind in ("input:", "output:")
    ]
    if not all(groups):
        raise BrokenArtifact(f"{artifact.SAMPLES} has no inputs or no outputs")
    return groups[0], groups[1]


def _warnings(manifest: Manifest) -> tuple[str, ...]:
    measured_on = manifest.provenance.get("hardware", {})
    here = hardware.detect().to_json()
    changed = [key for key in ("cpu", "flags", "cores") if key in measured_on and measured_on[key] != here[key]]
    return tuple(
        f"{key} is {here[key]!r} here and was {measured_on[key]!r} where this was measured: optimize again for figures "
        "that hold here"
        for key in changed
    )
