"""Pass: the torch source with channels or weights taken out and trained again, as a float32 graph.

The network is built, cut, trained and exported in a confined process. The graph that comes back is proven equal to what
was trained, exactly as the reference was proven equal to the source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import OptimizeError, PassFailed
from ..evaluation.dataset import Dataset
from ..pruning import KINDS, Cut
from ..sandbox import parent
from ..sources import KINDS as SOURCES
from ..sources import SourceSpec, axes, baseline, conversion
from . import PassJob, PassRecord

BATCH_SIZES = (1, 2, 8)
FACTS = "pruned.json"


def apply(job: PassJob) -> PassRecord:
    """``prune``, ``share``, ``train``; ``factory``, ``weights``, ``outputs`` and ``axes`` as the source was given.

    Starts its own process, which lives as long as this call. Raises PassFailed: nothing could be cut, training failed
    or took too long, or the graph is not what was trained.
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
            SOURCES["torch_factory"],
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
    # The child's own files may be large; the proven graph is all that is needed from here on.
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
        raise PassFailed("the process that trained left an unreadable record of what it cut") from error
