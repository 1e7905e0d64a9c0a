"""The embeddings demo: serves MiniLM as a pipeline, text in, vector out. ``make demo-embeddings`` runs it."""

from __future__ import annotations

import argparse
import http.client
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
from numpy.typing import NDArray

from examples.digits.demo import HOST, DemoFailed, free_port, stop, wait_until_ready
from examples.embeddings.build import MissingWeights, build

SENTENCES = (
    "A cat sits on the mat.",
    "A kitten rests on a small rug.",
    "The central bank raised its rates again.",
    "Share prices fell after the news about interest rates.",
    "How is rice cooked?",
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.embeddings.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop the server after the responses")
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8080, help="first port to try (default: %(default)s)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    artifact = options.build / "embeddings"
    try:
        assemble(artifact)
        port = free_port(options.port)
        with served(artifact, port) as server:
            ask(port)
            if not options.once:
                stay(port, server)
    except (DemoFailed, MissingWeights) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
    return 0


def assemble(artifact: Path) -> None:
    """Step 1: build the artifact, unless it exists. Raises MissingWeights."""
    print("\n[1] Build the pipeline of tokenizer, encoder and pooling", flush=True)
    if (artifact / "manifest.json").is_file():
        print(f"{artifact} exists (remove it to build again).")
        return
    print("Exporting the encoder from its weights takes about half a minute.", flush=True)
    build(artifact)
    print(f"{artifact} holds manifest.json with the steps, tokenizer.json, and the artifact encoder/.")


@contextmanager
def served(artifact: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Step 2: run the server as a process, ready when the block starts and drained when it ends."""
    print("\n[2] Serve the artifact", flush=True)
    command = [sys.executable, "serve.py", "--model", str(artifact), "--port", str(port)]
    print(f"$ python {shlex.join(command[1:])}", flush=True)
    server = subprocess.Popen(command, start_new_session=True)
    try:
        wait_until_ready(server, port)
        yield server
    finally:
        stop(server)


def ask(port: int) -> None:
    """Step 3: all sentences in one request with their similarities, then one sentence with the time of each step."""
    print("\n[3] Request vectors", flush=True)
    body = json.dumps({"inputs": list(SENTENCES)}).encode()
    vectors = np.array(json.loads(post(port, body, {"Content-Type": "application/json"})[0])["outputs"], np.float32)
    print(f"{len(vectors)} texts, {vectors.shape[1]} numbers each. Cosine similarity:\n")
    print("\n".join(table(vectors, SENTENCES)))
    print("\nOne text as the body, with the time of each step:")
    print(f"$ curl -i http://{HOST}:{port}/invocations -H 'Content-Type: text/plain' -H 'X-Slipway-Timing: 1' -d '...'")
    _, timing = post(port, SENTENCES[0].encode(), {"Content-Type": "text/plain", "X-Slipway-Timing": "1"})
    for name, ms in step_times(timing):
        print(f"  {name:<18} {ms:8.3f} ms")


def post(port: int, body: bytes, headers: dict[str, str]) -> tuple[bytes, str]:
    """The body of the response and its ``Server-Timing``. Raises DemoFailed for another status than 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request("POST", "/invocations", body, headers)
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise DemoFailed(f"the server returned {response.status}: {text.decode(errors='replace')[:200]}")
    return text, response.getheader("Server-Timing", "")


def table(vectors: NDArray[np.float32], sentences: Sequence[str]) -> list[str]:
    """``vectors``: ``[texts, width]`` of length one. Returns a line for each sentence with its similarity to all."""
    similarity = vectors @ vectors.T
    width = max(len(sentence) for sentence in sentences)
    return [
        f"  {sentence:<{width}}  " + " ".join(f"{value:5.2f}" for value in row)
        for sentence, row in zip(sentences, similarity, strict=True)
    ]


def step_times(timing: str) -> list[tuple[str, float]]:
    """(STEP.STAGE, milliseconds) of a ``Server-Timing`` header."""
    entries = [entry.strip().partition(";dur=") for entry in timing.split(",")]
    return [(name, float(ms)) for name, _, ms in entries if ms and "." in name]


def stay(port: int, server: subprocess.Popen[bytes]) -> None:
    """Print URLs to try, and wait for Ctrl-C. Raises DemoFailed when the server ends by itself."""
    base = f"http://{HOST}:{port}"
    print("\n[4] The server keeps running; try")
    print(f"  curl {base}/invocations -H 'Content-Type: text/plain' -d 'Any text'")
    print(f"  {base}/metrics   slipway_step_seconds: the time of each step")
    print("\nCtrl-C stops the server.", flush=True)
    raise DemoFailed(f"the server ended by itself with exit code {server.wait()}; its reason is above")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
