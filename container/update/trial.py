"""The trial server: an artifact served by a process of its own, and the answers of it to held-out rows."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.tensors import BY_NUMPY

from ..local.call import Address, NoResponse, call
from ..local.container import DidNotStart
from ..local.hosting import Hosting, HostingPlan
from ..local.limits import PlatformLimits
from ..local.model import InvalidModel
from .errors import StepFailed, UpdateError

START_S, ACCEPT_S, ANSWER_S = 600.0, 5.0, 120.0
ROWS = 32
NAME = "candidate"
INFER, JSON = f"/v2/models/{NAME}/infer", {"content-type": "application/json"}
log = logging.getLogger("slipway.update")
Arrays = Mapping[str, Any]


def read_rows(path: str) -> tuple[dict[str, Any], Any]:
    """The inputs and the labels (None without) of an ``.npz`` file. Raises UpdateError."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise UpdateError(f"--held-out {path} cannot be read: {error}") from error
    labels = arrays.pop("labels", None)
    sizes = {len(array) if array.ndim else -1 for array in (*arrays.values(), *([] if labels is None else [labels]))}
    if len(sizes) != 1 or min(sizes) < 1:
        raise UpdateError(f"--held-out {path} needs an array for each input, and labels, with as many rows")
    return arrays, labels


@contextlib.contextmanager
def served(artifact: Path) -> Iterator[Trial]:
    """A server of the artifact on a free port, until the block ends. Raises StepFailed if it does not start."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "SAGEMAKER_"))}
    settings = {"SLIPWAY_NAME": NAME, "SLIPWAY_DRAIN_GRACE_S": "0"}
    limits = PlatformLimits(accept_s=ACCEPT_S, startup_s=START_S)
    plan = HostingPlan(artifact.resolve(), environ=settings, injected=ours, limits=limits)
    with tempfile.TemporaryDirectory(prefix="slipway-trial-") as folder:
        hosting = Hosting(plan, Path(folder), log.info)
        try:
            hosting.start()
        except (DidNotStart, InvalidModel) as error:
            raise StepFailed(f"the model cannot be served: {error}") from error
        try:
            yield Trial(hosting.address)
        finally:
            hosting.stop()


@dataclass(frozen=True, slots=True)
class Trial:
    """A server that holds one model."""

    address: Address

    def outputs(self, rows: Arrays) -> tuple[dict[str, Any], list[int]]:
        """The outputs of all rows by name, and the indices of rows that got none.

        Raises StepFailed if no row gets an answer.
        """
        count = len(next(iter(rows.values())))
        failed: list[int] = []
        parts: list[dict[str, Any]] = []
        reason = ""
        for first in range(0, count, ROWS):
            part = {name: array[first : first + ROWS] for name, array in rows.items()}
            try:
                response = call(self.address, "POST", INFER, JSON, _request(part), within_s=ANSWER_S)
            except NoResponse as error:
                raise StepFailed(f"the trial server ended: {error}") from error
            if response.ok:
                parts.append(_arrays(response.body))
                continue
            reason = response.text[:300]
            failed += range(first, min(first + ROWS, count))
        if not parts:
            raise StepFailed(f"the model answers none of the held-out rows: {reason}")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, failed


def _request(rows: Arrays) -> bytes:
    inputs = []
    for name, array in rows.items():
        datatype = BY_NUMPY[array.dtype].name if array.dtype in BY_NUMPY else "BYTES"
        inputs.append({"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.tolist()})
    return json.dumps({"inputs": inputs}).encode()


def _arrays(body: bytes) -> dict[str, Any]:
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in json.loads(body)["outputs"]}
