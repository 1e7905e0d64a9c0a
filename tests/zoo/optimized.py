"""Zoo models after ``optimize``: the artifact, or the line with which the command refuses the model."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.integration.server_process import ROOT

from .routes import plain
from .served import Resident

QUICK = ("--metric", "cosine", "--batch-sizes", "1,4", "--threads", "1", "--rounds", "2", "--budget", "60s")
EVALUATION_ROWS = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the command left behind: an artifact as a model of the zoo, or its exit status and last words."""

    artifact: Resident | None
    status: int
    words: str

    @property
    def died(self) -> bool:
        """Whether the command ended by a signal or with a traceback."""
        return self.status < 0 or "Traceback" in self.words


def optimize(resident: Resident, folder: Path, *options: str) -> Outcome:
    """Run the command on the model file, with rows of the model's own requests, and ``options`` besides."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "evaluation.npz"
    # One request of many rows has the same axes as ordinary requests.
    request = resident.zoo.inputs(np.random.default_rng(0), EVALUATION_ROWS)
    np.savez(rows, allow_pickle=False, **{name: plain(array) for name, array in request.items()})
    output = folder / "artifact"
    command = ["-m", "optimize", str(resident.path), "--eval", str(rows), "--output", str(output), *QUICK, *options]
    ended = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        return Outcome(None, ended.returncode, ended.stderr)
    zoo = replace(resident.zoo, name=f"{resident.name}-optimized")
    return Outcome(Resident(zoo, resident.path, output), 0, ended.stderr)
