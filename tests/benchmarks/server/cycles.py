"""Memory of a multi-model server after many loads and unloads, against its memory after the first ones."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from bench.peers import networks
from tests.benchmarks.server.processes import PATIENCE_S, Unmeasurable, free_port, resident_bytes, served

CYCLES = 200
"""Cycles of each round: five rounds are a thousand."""

SETTLED = 0.1
"""Share of the cycles after which memory has settled: imports are done and allocators have grown."""

ROW = json.dumps({"instances": [[0.25] * 64]}).encode()
SCRIPT = "def model_fn(model_dir): return 2\ndef predict_fn(data, model): return data * model\n"


def cycles(work: Path, rounds: int, _seconds: float) -> None:
    """Load, call and unload an ONNX model and a script alternately, ``rounds`` times 200.

    Prints memory, descriptors and threads of the process when it has settled and at the end.
    """
    folders = (work / "onnx", work / "script")
    folders[0].mkdir()
    networks.perceptron(folders[0] / "model.onnx")
    (folders[1] / "code").mkdir(parents=True)
    (folders[1] / "code" / "inference.py").write_text(SCRIPT, encoding="utf-8")
    port, count = free_port(), rounds * CYCLES
    with served(["serve.py", "--multi-model", "--port", str(port)], port, work / "cycles.log") as process:
        seen = []
        for turn in range(count):
            _cycle(port, f"m{turn}", folders[turn % 2])
            if turn + 1 in (max(int(SETTLED * count), 1), count):
                seen.append((resident_bytes(process.pid), _entries(process.pid, "fd"), _entries(process.pid, "task")))
    (before, before_files, before_threads), (after, files, threads) = seen[0], seen[-1]
    print(
        f"cycles: {count:,} loads and unloads: {before / 1e6:.1f} MB after the first {SETTLED:.0%}, {after / 1e6:.1f} "
        f"MB at the end: {after / before:.1%} (wanted: at most 105 %); descriptors {before_files} to {files}, threads "
        f"{before_threads} to {threads}"
    )


def _cycle(port: int, name: str, folder: Path) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        for method, path, body in (
            ("POST", "/models", json.dumps({"model_name": name, "url": str(folder)}).encode()),
            ("POST", f"/models/{name}/invoke", ROW),
            ("DELETE", f"/models/{name}", None),
        ):
            client.request(method, path, body, {"Content-Type": "application/json"})
            answer = client.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise Unmeasurable(f"{method} {path} answered {answer.status}: {text[:200].decode(errors='replace')}")
    finally:
        client.close()


def _entries(pid: int, what: str) -> int:
    return len(list(Path(f"/proc/{pid}/{what}").iterdir()))
