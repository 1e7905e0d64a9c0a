"""The registry of this machine: a folder for each version of a group, with artifact, evidence and status."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from .. import evidence
from ..errors import NotThere
from ..order import Order
from . import state

APPROVED, REJECTED, PENDING = "Approved", "Rejected", "PendingManualApproval"
RECORD = "version.json"


def register(order: Order, root: Path) -> tuple[int, bool]:
    """The version, and whether it is new. An artifact that is registered already stays one version."""
    order.description.require("group")
    model = evidence.artifact_of(order.facts)
    assert model.manifest is not None
    found = versions(order, root)
    for version, record in found.items():
        if record["digest"] == model.digest:
            return version, False
    version = max(found, default=0) + 1
    target = _group(order, root) / str(version)
    record = {
        "digest": model.digest,
        "status": PENDING,
        "quality": evidence.quality(model.manifest),
        "bias": evidence.bias(model.manifest),
    }
    shutil.rmtree(target, ignore_errors=True)  # a copy without its record, of a command that was killed
    state.copy(model.path, target)
    state.write(target / RECORD, record)
    return version, True


def versions(order: Order, root: Path) -> dict[int, dict[str, Any]]:
    """Complete versions by number."""
    group = _group(order, root)
    folders = [one for one in group.iterdir() if one.name.isdecimal()] if group.is_dir() else []
    records = {int(one.name): state.read(one / RECORD) for one in sorted(folders)}
    return {version: record for version, record in records.items() if record}


def approve(order: Order, root: Path) -> tuple[int, str]:
    """Approve or reject a version: its number and its status. Raises NotThere."""
    order.description.require("group")
    found = versions(order, root)
    version = order.version if order.version is not None else max(found, default=0)
    if version not in found:
        raise NotThere(f"the group {order.description.group} has no version {version or ''}: run register first")
    status = REJECTED if order.reject else APPROVED
    record = {**found[version], "status": status, "reason": order.reason}
    state.write(_group(order, root) / str(version) / RECORD, record)
    return version, status


def approved(order: Order, root: Path) -> tuple[Path, str]:
    """Model and digest of the newest approved version. Raises NotThere."""
    order.description.require("group")
    found = [version for version, record in versions(order, root).items() if record["status"] == APPROVED]
    if not found:
        raise NotThere(f"the group {order.description.group} has no approved version: run register, then approve")
    folder = _group(order, root) / str(max(found))
    return state.model_of(folder), str(state.read(folder / RECORD)["digest"])


def _group(order: Order, root: Path) -> Path:
    return root / "registry" / str(order.description.group)
