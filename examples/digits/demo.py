"""The digits demo: train, optimize, serve, predict, send load. ``make demo``, or ``python -m examples.digits.demo``."""

from __future__ import annotations

import argparse
import http.client
import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
from numpy.typing import NDArray

from examples.digits.train import FILES

SHADES = " .:-=+*#%@"
DRAWN, ASKED, ROWS_PER_REQUEST = 6, 300, 10
HOST = "127.0.0.1"
READY_WITHIN_S, POLL_S = 60.0, 0.1
DRAIN_WITHIN_S = 30.0
RATE, LOAD_S = 200, 5
UNTRUSTED = 1
"""The exit code of ``bench`` for an invalid run, such as on a busy machine."""


class DemoFailed(Exception):
    """A step failed; the message says which step and where its reason is."""


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of the demo."""

    training: Path
    artifact: Path

    @property
    def payload(self) -> Path:
        return self.training / "payload.json"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.digits.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop the server after the load test")
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8080, help="first port to try (default: %(default)s)")
    options = parser.parse_args(arguments)
    # The server is drained after SIGTERM as well as after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    places = Places(options.build / "digits-train", options.build / "digits")
    try:
        train(places)
        optimize(places)
        port = free_port(options.port)
        with served(places.artifact, port) as server:
            ask(places, port)
            load(places, port)
            if not options.once:
                stay(places, port, server)
    except DemoFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
    return 0


def train(places: Places) -> None:
    """Step 1: train, unless the files exist."""
    _headline(1, "Train a small network on 1,797 real handwritten digits")
    if all((places.training / name).is_file() for name in FILES):
        print(f"{places.training} has the weights and the data of an earlier training (remove it to train again).")
        return
    _run("training", [sys.executable, "-m", "examples.digits.train", "--output", str(places.training)])


def optimize(places: Places) -> None:
    """Step 2: the command line of ``optimize``."""
    _headline(2, "Find the fastest variant that meets the accuracy target on this machine")
    data = {name: str(places.training / f"{name}.npz") for name in ("eval", "calibration")}
    weights = str(places.training / "weights.safetensors")
    command = [sys.executable, "-m", "optimize", "examples.digits.model:build", "--weights", weights]
    command += ["--eval", data["eval"], "--calibration", data["calibration"], "--metric", "accuracy"]
    command += ["--max-drop", "1%", "--labels", "0,1,2,3,4,5,6,7,8,9", "--budget", "20"]
    _run("optimize", [*command, "--output", str(places.artifact), "--force"])


@contextmanager
def served(artifact: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Step 3: run the server as a process, ready when the block starts and drained when it ends.

    Raises DemoFailed when it ends early or is not ready in time.
    """
    _headline(3, "Serve the artifact")
    command = [sys.executable, "serve.py", "--model", str(artifact), "--port", str(port)]
    print(f"$ python {shlex.join(command[1:])}", flush=True)
    # In a session of its own the server gets no Ctrl-C, only our SIGTERM: a second signal would end the drain.
    server = subprocess.Popen(command, start_new_session=True)
    try:
        wait_until_ready(server, port)
        yield server
    finally:
        stop(server)


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    """Poll ``/ping`` until it returns 200. Raises DemoFailed when the server ends or takes too long."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoFailed(f"the server ended with exit code {server.returncode}; its reason is above")
        if _ping(port) == http.HTTPStatus.OK:
            return
        time.sleep(POLL_S)
    raise DemoFailed(f"the server was not ready within {READY_WITHIN_S:.0f} s")


def stop(server: subprocess.Popen[bytes]) -> None:
    """Drain the server; kill it when it does not end in time."""
    if server.poll() is not None:
        return
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(DRAIN_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def ask(places: Places, port: int) -> None:
    """Step 4: predict held-out digits over HTTP and draw some. Raises DemoFailed for another status than 200."""
    _headline(4, "Predict digits that were not in the training data")
    with np.load(places.training / "eval.npz") as archive:
        images, labels = archive["image"][:ASKED], archive["labels"][:ASKED]
    places.payload.write_text(json.dumps({"instances": images[:1].tolist()}), encoding="utf-8")
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        starts = range(0, len(images), ROWS_PER_REQUEST)
        parts = [predict(connection, images[start : start + ROWS_PER_REQUEST]) for start in starts]
    finally:
        connection.close()
    probabilities = np.concatenate(parts)
    print("\n".join(draw(images[:DRAWN, 0])))
    for lines in captions(probabilities[:DRAWN], labels[:DRAWN]):
        print(lines)
    right = int((probabilities.argmax(axis=1) == labels).sum())
    print(f"\nOver HTTP, {right} of {len(labels)} held-out digits are correct: {right / len(labels):.1%}.", flush=True)


def predict(connection: http.client.HTTPConnection, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """``images``: ``[rows, 1, 8, 8]``. Returns probabilities ``[rows, 10]``. Raises DemoFailed for another status."""
    body = json.dumps({"instances": images.tolist()})
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    if response.status != http.HTTPStatus.OK:
        raise DemoFailed(f"the server returned {response.status}: {text.decode(errors='replace')[:200]}")
    return np.asarray(json.loads(text)["predictions"], dtype=np.float64)


def draw(images: NDArray[np.float32]) -> list[str]:
    """``images``: ``[count, 8, 8]``, ink from 0 to 1. Returns lines with the images side by side, 16 columns each."""
    levels = np.clip(np.rint(images * (len(SHADES) - 1)), 0, len(SHADES) - 1).astype(int)
    rows = levels.transpose(1, 0, 2)
    return ["   ".join("".join(SHADES[level] * 2 for level in line) for line in row).rstrip() for row in rows]


def captions(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> list[str]:
    """Two lines for a drawing of the same digits: the label, and the predicted digit with its probability."""
    reads = probabilities.argmax(axis=1)
    written = [f"label: {label}" for label in labels]
    answers = [f"read: {read} ({row[read]:.1%})" for read, row in zip(reads, probabilities, strict=True)]
    return ["   ".join(f"{text:<16}" for text in line).rstrip() for line in (written, answers)]


def load(places: Places, port: int) -> None:
    """Step 5: send load and explain the latency."""
    _headline(5, f"Send {RATE} requests a second, and show where the time goes")
    command = [sys.executable, "-m", "bench", "run", f"http://{HOST}:{port}", "--payload", str(places.payload)]
    code = _show([*command, "--rate", str(RATE), "--duration", str(LOAD_S), "--card"])
    if code == UNTRUSTED:
        print("The load test is invalid for the reason above. The demo continues.", flush=True)
    elif code:
        raise DemoFailed(f"the load test ended with exit code {code}; its reason is above")


def stay(places: Places, port: int, server: subprocess.Popen[bytes]) -> None:
    """Print URLs to try, and wait for Ctrl-C. Raises DemoFailed when the server ends by itself."""
    base = f"http://{HOST}:{port}"
    _headline(6, "The server keeps running; try")
    print(f"  {base}/docs              all routes, in a browser")
    print(f"  {base}/metrics           metrics for Prometheus")
    print(f"  {base}/v2/models/digits  metadata in the Open Inference Protocol")
    print(f"  curl {base}/invocations -H 'Content-Type: application/json' -d @{places.payload}")
    print(f"  python -m optimize show {places.artifact}   why this variant won; or open {places.artifact}/report.html")
    print("\nCtrl-C stops the server.", flush=True)
    raise DemoFailed(f"the server ended by itself with exit code {server.wait()}; its reason is above")


def free_port(wanted: int) -> int:
    """``wanted``, or the next free port above it, with a message. Raises DemoFailed after a hundred ports."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            # As the server does: a port with connections in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except (OSError, OverflowError):
                continue
        if port != wanted:
            print(f"\nPort {wanted} is in use; using {port}.")
        return port
    raise DemoFailed(f"no free port from {wanted} on")


def _ping(port: int) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _run(step: str, command: Sequence[str]) -> None:
    code = _show(command)
    if code:
        raise DemoFailed(f"{step} ended with exit code {code}; its reason is above")


def _show(command: Sequence[str]) -> int:
    """Run a Python command with our standard output, and return its exit code."""
    print(f"$ python {shlex.join(command[1:])}", flush=True)
    return subprocess.run(command, check=False).returncode


def _headline(step: int, text: str) -> None:
    print(f"\n[{step}] {text}", flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
