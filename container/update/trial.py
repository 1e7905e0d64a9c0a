"""The trial server: an artifact served by a process of its own, and the answers of it to held-out rows."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..children import ROOT
from .children import start
from .errors import StepFailed, UpdateError

START_S, ANSWER_S = 600.0, 120.0
ROWS = 32
NAME = "candidate"
DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
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
    with tempfile.TemporaryDirectory(prefix="slipway-trial-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            command = [sys.executable, str(ROOT / "serve.py"), "--model", str(artifact.resolve())]
            command += ["--name", NAME, "--port", "0", "--no-admin"]
            process = start(command, output, output)
            try:
                trial = Trial(_wait(process, log))
                with contextlib.closing(trial):
                    yield trial
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port, once the server is ready."""
    end = time.monotonic() + START_S
    port = 0
    while time.monotonic() < end:
        text = log.read_text(encoding="utf-8", errors="replace")
        if process.poll() is not None:
            raise StepFailed(f"the model cannot be served: {text.strip().splitlines()[-1:] or ['no log']}")
        if not port:
            found = re.search(r"listening on http://\S+:(\d+)", text)
            port = int(found[1]) if found else 0
        if port:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            with contextlib.closing(client), contextlib.suppress(OSError, http.client.HTTPException):
                client.request("GET", "/ping")
                if client.getresponse().status == 200:
                    return port
        time.sleep(0.05)
    raise StepFailed(f"the model was not ready to be served within {START_S:g} s")


class Trial:
    """A server that holds one model."""

    def __init__(self, port: int) -> None:
        self._client = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)

    def close(self) -> None:
        self._client.close()

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
            status, body = self._ask("POST", f"/v2/models/{NAME}/infer", _request(part))
            if status == 200:
                parts.append(_arrays(body))
                continue
            reason = body.decode(errors="replace")[:300]
            failed += range(first, min(first + ROWS, count))
        if not parts:
            raise StepFailed(f"the model answers none of the held-out rows: {reason}")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, failed

    def _ask(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        try:
            self._client.request(method, url, body, {"Content-Type": "application/json"})
            response = self._client.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise StepFailed(f"the trial server ended: {error}") from error


def _request(rows: Arrays) -> bytes:
    inputs = []
    for name, array in rows.items():
        datatype = DATATYPES.get(array.dtype.name, "BYTES")
        inputs.append({"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.tolist()})
    return json.dumps({"inputs": inputs}).encode()


def _arrays(body: bytes) -> dict[str, Any]:
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in json.loads(body)["outputs"]}
