"""The trial: starts the real server on a free port in its own process, sends each model its own sample, and ends it.

The fatal line of that server is shown as the finding, so that the doctor reports what the server would.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any

from .. import artifact as artifacts
from .. import fatal
from ..artifact import Artifact
from .findings import Finding, ok, stop, warn
from .host import HEADROOM, megabytes

ENTRY = Path(__file__).resolve().parents[2] / "serve.py"
LOOK_S = 0.01
ASK_S = 30.0
END_S = 10.0


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """``seconds`` until the server must be ready; ``memory_bytes`` of the container, or None."""

    seconds: float
    memory_bytes: int | None


class Trial:
    """One server process under observation."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], log: IO[bytes]) -> None:
        # The grace is for load balancers, and a free port leaves the configured one alone.
        flags = ["--host", "127.0.0.1", "--port", "0", "--drain-grace-s", "0", "--no-access-log", "--log-level", "info"]
        self._log = log
        self._process = subprocess.Popen(  # noqa: S603 - our own entry point
            [sys.executable, str(ENTRY), "serve", *argv, *flags],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        # When memory runs out, the kernel kills this process first, and the doctor can still report it.
        with contextlib.suppress(OSError):  # the process has ended, or the file does not exist: the setting is optional
            Path(f"/proc/{self._process.pid}/oom_score_adj").write_text("1000", encoding="ascii")

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def wait_ready(self, seconds: float) -> HTTPConnection | None:
        """A connection once /ping says 200; None when the process has ended. Raises TimeoutError."""
        end = time.monotonic() + seconds
        client: HTTPConnection | None = None
        while time.monotonic() < end:
            if self._process.poll() is not None:
                return None
            found = re.search(r"listening on http://\S+:(\d+)", self.log()) if client is None else None
            if found:
                client = HTTPConnection("127.0.0.1", int(found[1]), timeout=ASK_S)
            if client is not None and _status(client) == 200:
                return client
            time.sleep(LOOK_S)
        raise TimeoutError

    def why_ended(self) -> str:
        """The fatal cause of a process that has ended."""
        code = self._process.wait()
        said = fatal.found_in(self.log())
        if said is not None:
            return said
        if code < 0:
            name = signal.Signals(-code).name
            reason = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
            return f"the server was ended by {name} while loading{reason}"
        lines = [line for line in self.log().splitlines() if line.strip()]
        return f"the server ended with {code} while loading" + (f": {lines[-1]}" if lines else "")

    def peak_bytes(self) -> int:
        """The largest resident memory of the process; 0 where the kernel does not report it."""
        try:
            text = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return 0
        found = re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def end(self) -> None:
        """End the process and all processes that it has started."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def examine(
    argv: Sequence[str], environ: Mapping[str, str], models: Sequence[Artifact], limits: TrialLimits
) -> Iterator[Finding]:
    """Start the server, send each model its sample, end the server."""
    with tempfile.TemporaryFile() as log:
        begun = time.monotonic()
        trial = Trial(argv, environ, log)
        try:
            client = trial.wait_ready(limits.seconds)
            if client is None:
                yield stop("load", trial.why_ended())
                return
            took_s = time.monotonic() - begun
            yield from (_asked(client, one) for one in models)
            yield _fits(took_s, trial.peak_bytes(), limits.memory_bytes)
            client.close()
        except TimeoutError:
            yield stop(
                "load",
                f"not ready after {limits.seconds:g} s",
                "raise --limit-s",
            )
        finally:
            trial.end()


def _fits(took_s: float, peak_bytes: int, limit_bytes: int | None) -> Finding:
    text = f"ready after {took_s:.1f} s in a process of its own, at most {megabytes(peak_bytes)} resident"
    if limit_bytes is not None and peak_bytes > HEADROOM * limit_bytes:
        return warn("load", f"{text} of {megabytes(limit_bytes)}", "raise the memory limit: requests need memory too")
    return ok("load", text)


def _asked(client: HTTPConnection, model: Artifact) -> Finding:
    """Send one request with the model's own sample, and compare the response with the stored outputs."""
    import numpy as np

    manifest = model.manifest
    subject = "sample"
    if not model.declared or not (model.root / artifacts.SAMPLES).is_file():
        return ok(subject, f"{manifest.name} has no sample to send")
    try:
        with np.load(model.root / artifacts.SAMPLES, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        return stop(subject, f"{artifacts.SAMPLES} of {manifest.name} cannot be read: {error}", "optimize it again")
    dependent = manifest.batching is not None and manifest.batching.independent is False
    rows = slice(0, 1) if manifest.spec.batchable and not dependent else slice(None)
    inputs = [
        {
            "name": one.name,
            "shape": list(arrays[f"input:{one.name}"][rows].shape),
            "datatype": one.dtype.name,
            "data": arrays[f"input:{one.name}"][rows].ravel().tolist(),
        }
        for one in manifest.spec.inputs
        if f"input:{one.name}" in arrays
    ]
    path = f"/v2/models/{manifest.name}/versions/{manifest.version}/infer"
    client.request("POST", path, json.dumps({"inputs": inputs}), {"Content-Type": "application/json"})
    reply = client.getresponse()
    body = reply.read()
    if reply.status != 200:
        return stop(subject, f"{manifest.name} answers its own sample with {reply.status}: {body.decode()[:200]}")
    distances = [0.0]
    for output in json.loads(body)["outputs"]:
        wanted = arrays.get(f"output:{output['name']}")
        if wanted is not None and wanted.dtype.kind in "fiub":
            distances.append(_distance(output["data"], wanted[rows].ravel()))
    if np.isnan(distances).any():
        return stop(
            subject,
            f"{manifest.name} answers its own sample otherwise than stored: in size or NaN",
            "optimize it again",
        )
    return ok(subject, f"{manifest.name} answers its own sample, at most {max(distances):.2g} from the stored answer")


def _distance(answer: Sequence[Any], wanted: Any) -> float:
    import numpy as np

    if len(answer) != wanted.size:
        return float("nan")
    if not wanted.size:
        return 0.0
    given = np.array([float("nan") if one is None else one for one in answer], np.float64)
    # Positions where the stored output is not finite are not compared.
    known = np.isfinite(wanted)
    return float(np.abs(given[known] - wanted.astype(np.float64)[known]).max(initial=0.0))


def _status(client: HTTPConnection) -> int:
    try:
        client.request("GET", "/ping")
        reply = client.getresponse()
        reply.read()
    except (OSError, HTTPException):
        client.close()
        return 0
    return reply.status
