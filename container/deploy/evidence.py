"""The evidence of an artifact for a registry: quality and latency, and what quantization changed."""

from __future__ import annotations

from typing import Any

from server.artifact import Manifest

from .defaults import Facts
from .errors import InvalidDescription
from .model_source import ModelFile

METADATA_CHARACTERS = 256
"""Longest value of CustomerMetadataProperties."""


def artifact_of(facts: Facts) -> ModelFile:
    """The artifact to register. Raises InvalidDescription for a model without a manifest."""
    model = facts.model
    if model is None or model.manifest is None:
        raise InvalidDescription("the registry takes an artifact of optimize: its evidence is registered with it")
    return model


def quality(manifest: Manifest) -> dict[str, Any]:
    """Accuracy, latency and speed-up of the artifact and its candidates, and the digests of its files."""
    chosen = chosen_candidate(manifest)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "candidate": manifest.evidence.get("chosen"),
        "accuracy": chosen.get("accuracy"),
        "source": manifest.evidence.get("source"),
        "latency_us": [
            {"batch_size": point.batch_size, "p50": point.p50_us, "p95": point.p95_us} for point in manifest.cost
        ],
        "speed_up": chosen.get("speed_up"),
        "digests": {row.path: row.sha256 for row in manifest.files},
        "candidates": [
            {name: one.get(name) for name in ("name", "chosen", "reason", "accuracy", "speed_up")}
            for one in manifest.evidence.get("candidates", [])
        ],
    }


def bias(manifest: Manifest) -> dict[str, Any]:
    """How the answers of the served candidate differ from those of the float32 model."""
    chosen = chosen_candidate(manifest)
    names = ("applied", "sqnr_db", "neighbours", "worst_segment", "served")
    differences = {"samples": manifest.evidence.get("samples"), "proof": manifest.evidence.get("proof")}
    return {"candidate": chosen.get("name"), **{name: chosen.get(name) for name in names}, **differences}


def metadata(manifest: Manifest, digest: str) -> dict[str, str]:
    """Short facts for lists of versions; values of at most 256 characters."""
    chosen = chosen_candidate(manifest)
    facts = {
        "digest": digest,
        "name": manifest.name,
        "version": manifest.version,
        "backend": manifest.backend,
        "device": manifest.device.kind,
        "candidate": str(manifest.evidence.get("chosen", "")),
        "speed_up": str((chosen.get("speed_up") or {}).get("ratio", "")),
    }
    return {name: value[:METADATA_CHARACTERS] for name, value in facts.items() if value}


def chosen_candidate(manifest: Manifest) -> dict[str, Any]:
    """The evidence of the candidate that the artifact holds; {} where there is none."""
    candidates = manifest.evidence.get("candidates", [])
    return next((one for one in candidates if one.get("chosen")), {})
