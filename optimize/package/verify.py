"""Verification: the table of an artifact's candidates, and the check of its digests, samples and speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from server import artifact
from server.artifact import Manifest
from server.backends import BackendOptions, Session, loader
from server.errors import BrokenArtifact

from .. import hardware
from ..evaluation import evaluate
from ..evaluation.dataset import loaded
from .artifact import largest_difference

TIMED_RUNS = 9

NOTED = 1.5
"""Ratio to the recorded median above which a slower run gets a note."""

SLACK = 2.0
"""Allowed multiple of the recorded difference, because other processors round int8 sums differently."""

FLOAT_NOISE = 1e-4
"""Allowed difference between any two machines, relative to the largest output value."""


Stopwatch = Callable[[Session, Sequence[Any]], float]
"""Median microseconds of a run of a session on a batch."""


@dataclass(frozen=True, slots=True)
class Speed:
    """A run at ``batch_size``: microseconds here, and those in the manifest."""

    batch_size: int
    here_us: float
    recorded_us: float


@dataclass(frozen=True, slots=True)
class Verified:
    """``difference``: the largest to the recorded outputs, and its limit ``allowed``. ``warnings`` are for the user."""

    difference: float
    allowed: float
    rows: int
    warnings: tuple[str, ...]
    speeds: tuple[Speed, ...] = ()


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
    """Whether the manifest was written by a search."""
    return bool(manifest.evidence.get("candidates"))


def median_us(session: Session, batch: Sequence[Any]) -> float:
    """Median of a few runs, after one that plans the memory."""
    session.run(batch)
    taken = []
    for _ in range(TIMED_RUNS):
        begun = time.perf_counter_ns()
        session.run(batch)
        taken.append((time.perf_counter_ns() - begun) / 1e3)
    return float(np.median(taken))


def verify(path: Path, stopwatch: Stopwatch = median_us) -> Verified:
    """Check every digest, run the samples and compare with the reference's recorded answers, and time every batch size
    against the manifest's costs.

    Raises BrokenArtifact: a file differs, there are no samples, or the answers are further away than they were when
    the artifact was made (twice that, and float noise).
    """
    found = artifact.read(path)
    artifact.verify(found)
    inputs, expected = samples(found.root)
    manifest = found.manifest
    session = loader(manifest.backend)(found.model_path, opening(manifest))
    try:
        most = max(manifest.shapes.rows) if manifest.shapes else 0
        answers = evaluate.run_in_parts(session, [inputs[spec.name] for spec in session.spec.inputs], most)
        difference = largest_difference(answers, [expected[spec.name] for spec in session.spec.outputs])
        speeds = _speeds(manifest, session, inputs, stopwatch)
    except KeyError as error:
        raise BrokenArtifact(f"{artifact.SAMPLES} has nothing for {error.args[0]!r}") from error
    finally:
        session.close()
    numbers = [array for array in expected.values() if array.dtype.kind != "O"]
    scale = max([1.0, *(float(np.max(np.abs(array), initial=0.0)) for array in numbers)])
    recorded = float(manifest.evidence.get("samples", {}).get("max_abs_difference", 0.0))
    allowed = SLACK * recorded + FLOAT_NOISE * scale
    if not difference <= allowed:
        raise BrokenArtifact(f"the samples differ from the reference by {difference:.3g}, more than {allowed:.3g}")
    rows = max(len(array) for array in inputs.values() if array.ndim)
    return Verified(difference, allowed, rows, (*_warnings(manifest), *_slower(speeds)), speeds)


def opening(manifest: Manifest) -> BackendOptions:
    """How the backend opens the model of an artifact, as its manifest says."""
    return BackendOptions(
        manifest.batching.threads if manifest.batching else 1,
        optimized=manifest.optimized,
        target=manifest.device,
        shapes=manifest.shapes,
        padding=manifest.padding,
        spec=manifest.spec,
    )


def _speeds(manifest: Manifest, session: Session, inputs: dict[str, Any], stopwatch: Stopwatch) -> tuple[Speed, ...]:
    samples = [inputs[spec.name] for spec in session.spec.inputs]
    # The rows of a state are not on axis 0: the samples are then one run.
    resizable = all(spec.shape[:1] == (-1,) for spec in session.spec.inputs)
    return tuple(
        Speed(
            cost.batch_size,
            stopwatch(session, [_resized(array, cost.batch_size) for array in samples] if resizable else samples),
            cost.p50_us,
        )
        for cost in manifest.cost
    )


def _resized(array: Any, rows: int) -> Any:
    return np.resize(array, (rows, *array.shape[1:]))


def _slower(speeds: Sequence[Speed]) -> tuple[str, ...]:
    return tuple(
        f"a batch of {speed.batch_size} takes {speed.here_us:,.0f} us here and took {speed.recorded_us:,.0f} us where "
        "it was measured: a busy or a slower machine"
        for speed in speeds
        if speed.here_us > NOTED * speed.recorded_us
    )


def samples(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs and the reference's outputs that an artifact holds, by name. Raises BrokenArtifact without them."""
    path = root / artifact.SAMPLES
    if not path.is_file():
        raise BrokenArtifact(f"no {artifact.SAMPLES} in {root}: there is nothing to compare with")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    groups = [
        {n.removeprefix(kind): loaded(a) for n, a in arrays.items() if n.startswith(kind)}
        for kind in ("input:", "output:")
    ]
    if not all(groups):
        raise BrokenArtifact(f"{artifact.SAMPLES} has no inputs or no outputs")
    return groups[0], groups[1]


def _warnings(manifest: Manifest) -> tuple[str, ...]:
    measured_on = manifest.provenance.get("hardware", {})
    here = hardware.detect().to_json()
    changed = [key for key in ("cpu", "flags", "cores") if key in measured_on and measured_on[key] != here[key]]
    warnings = [
        f"{key} is {here[key]!r} here and was {measured_on[key]!r} where this was measured: optimize again for figures "
        "that hold here"
        for key in changed
    ]
    if any(one["weights_replaced"] for one in manifest.provenance.get("rebuilds", ())):
        warnings.append("rebuild has replaced the weights: the accuracies are those of the weights before")
    return tuple(warnings)
