"""Pass: the torch source with channels or weights removed and trained again, as a float32 graph.

A sandboxed process builds, cuts, trains and exports the network. The graph is then proven equal to the trained network,
by the same proof that compares the reference with the source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import sources
from ..errors import OptimizeError, PassFailed
from ..evaluation.dataset import Dataset
from ..pruning import KINDS, Cut
from ..sandbox import parent
from ..sources import SourceSpec, axes, baseline, conversion
from . import PassJob, PassRecord

BATCH_SIZES = (1, 2, 8)
FACTS = "pruned.json"


def apply(job: PassJob) -> PassRecord:
    """``prune``, ``share``, ``train``; ``factory``, ``weights``, ``outputs`` and ``axes`` as the source was given.

    Starts its own process, which ends with this call. Raises PassFailed when nothing could be cut, when training failed
    or took too long, or when the graph differs from the trained network.
    """
    options = {name: str(value) for name, value in job.options.items()}
    cut = Cut(KINDS[options["prune"]], float(options["share"]))
    request = SourceSpec(
        reference=options["factory"],
        weights=Path(options["weights"]) if options["weights"] else None,
        outputs=tuple(filter(None, options["outputs"].split(","))),
        axes=axes.parse(options["axes"]),
    )
    task = parent.Retraining(cut, options["train"], job.seed)
    rows = Dataset(job.calibration.inputs, None, job.calibration.sha256)
    try:
        found = parent.convert(
            sources.KINDS["torch_factory"],
            request,
            rows,
            BATCH_SIZES,
            job.workdir,
            job.limits or parent.SandboxLimits(),
            task,
        )
        proof = baseline.write(found, job.workdir / "model.onnx")
    except OptimizeError as error:
        raise PassFailed(str(error)) from error
    facts = _facts(job.workdir / FACTS)
    applied = {
        "prune": f"{cut.kind} {cut.share:g}",
        "train": options["train"] or "nothing",
        "weights": f"{facts['before']:,} -> {facts['after']:,}",
        "proof": f"{proof.worst:.2g}",
    }
    said = (*(f"cut {line}" for line in facts["cut"]), *(f"left {line}" for line in facts["left"]))
    model = job.workdir / "model.onnx"
    # The exported graph may be large, and only the proven one is used from here on.
    (job.workdir / conversion.GRAPH).unlink()
    return PassRecord(model, applied, said, base=model, files=facts["files"])


def _facts(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return {
            "before": int(body["before"]),
            "after": int(body["after"]),
            "cut": [str(line) for line in body["cut"]],
            "left": [str(line) for line in body["left"]],
            "files": {str(path): str(sha256) for path, sha256 in body["files"].items()},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PassFailed("the training process left an unreadable record of its cuts") from error
