"""The demo: MiniLM as a pipeline, served; texts in, vectors out. ``make demo-embeddings``, or run this module."""

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
    parser.add_argument("--once", action="store_true", help="stop after the answers instead of leaving it running")
    parser.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8080, help="the next free one is taken; default: %(default)s")
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
    """Step 1, unless it was done before. Raises MissingWeights."""
    print("\n[1] Put tokenizer, encoder and pooling together", flush=True)
    if (artifact / "manifest.json").is_file():
        print(f"Built before: {artifact} (remove it to build again).")
        return
    print("Exporting the encoder from its weights takes about half a minute.", flush=True)
    build(artifact)
    print(f"{artifact} holds manifest.json with the steps, tokenizer.json, and encoder/, an artifact of its own.")


@contextmanager
def served(artifact: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Step 2: the server as its own process, ready when the block starts and drained when it ends."""
    print("\n[2] Serve it", flush=True)
    command = [sys.executable, "serve.py", "--model", str(artifact), "--port", str(port)]
    print(f"$ python {shlex.join(command[1:])}", flush=True)
    server = subprocess.Popen(command, start_new_session=True)
    try:
        wait_until_ready(server, port)
        yield server
    finally:
        stop(server)


def ask(port: int) -> None:
    """Step 3: all sentences in one request, how alike they are, and one alone with the time of every step."""
    print("\n[3] Ask for vectors", flush=True)
    body = json.dumps({"inputs": list(SENTENCES)}).encode()
    vectors = np.array(json.loads(post(port, body, {"Content-Type": "application/json"})[0])["outputs"], np.float32)
    print(f"{len(vectors)} texts, {vectors.shape[1]} numbers each. How alike they are (cosine):\n")
    print("\n".join(table(vectors, SENTENCES)))
    print("\nOne text as the body, and where its time went:")
    print(f"$ curl -i http://{HOST}:{port}/invocations -H 'Content-Type: text/plain' -H 'X-Slipway-Timing: 1' -d '...'")
    _, timing = post(port, SENTENCES[0].encode(), {"Content-Type": "text/plain", "X-Slipway-Timing": "1"})
    for name, ms in step_times(timing):
        print(f"  {name:<18} {ms:8.3f} ms")


def post(port: int, body: bytes, headers: dict[str, str]) -> tuple[bytes, str]:
    """The answer's body and its ``Server-Timing``. Raises DemoFailed for another status than 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request("POST", "/invocations", body, headers)
        reply = connection.getresponse()
        text = reply.read()
    finally:
        connection.close()
    if reply.status != http.HTTPStatus.OK:
        raise DemoFailed(f"the server answered {reply.status}: {text.decode(errors='replace')[:200]}")
    return text, reply.getheader("Server-Timing", "")


def table(vectors: NDArray[np.float32], sentences: Sequence[str]) -> list[str]:
    """``vectors``: ``[texts, width]`` of length one. Lines: each sentence with its likeness to all of them."""
    likeness = vectors @ vectors.T
    width = max(len(sentence) for sentence in sentences)
    return [
        f"  {sentence:<{width}}  " + " ".join(f"{value:5.2f}" for value in row)
        for sentence, row in zip(sentences, likeness, strict=True)
    ]


def step_times(timing: str) -> list[tuple[str, float]]:
    """(STEP.STAGE, milliseconds) out of a ``Server-Timing`` header."""
    entries = [entry.strip().partition(";dur=") for entry in timing.split(",")]
    return [(name, float(ms)) for name, _, ms in entries if ms and "." in name]


def stay(port: int, server: subprocess.Popen[bytes]) -> None:
    """Say what to try, and wait for Ctrl-C. Raises DemoFailed when the server ends by itself."""
    base = f"http://{HOST}:{port}"
    print("\n[4] It keeps running; things to try")
    print(f"  curl {base}/invocations -H 'Content-Type: text/plain' -d 'Any text'")
    print(f"  {base}/metrics   slipway_step_seconds: the times of each step")
    print("\nCtrl-C ends it.", flush=True)
    raise DemoFailed(f"the server ended by itself with exit code {server.wait()}; its reason is above")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
