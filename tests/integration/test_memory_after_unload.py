"""Memory comes back when a model is unloaded: measured from outside the allocator, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.server_process import ROOT

pytestmark = pytest.mark.slow

MEGABYTES = 64

DRIVER = """
import asyncio, gc, json, os, sys
from pathlib import Path
import numpy as np
from server.models import Models
from server.observe.metrics import Metrics
from server.request import InferRequest
from server.settings.reader import read
from server.system.memory import bound_heaps

bound_heaps()  # as a server does
gc.disable()  # weights must not wait for the garbage collector

def rss():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

async def use(models, path):
    model = await models.load(Path(path))
    answered = asyncio.get_running_loop().create_future()
    width = model.spec.inputs[0].shape[1]
    arrays = (np.zeros((64, width), np.float32),)
    model.submit(InferRequest(arrays, 64, answered.set_result))
    request = await answered
    assert request.error is None, request.error
    loaded = rss()
    del request, answered, arrays
    name = model.name
    del model
    await models.unload(name)
    return loaded

async def main():
    models = Models(read([], {}), Metrics(lambda: True, "0"))
    await use(models, sys.argv[1])
    seen = [(0.0, rss())]
    for _ in range(4):
        loaded = await use(models, sys.argv[2])
        seen.append((loaded, rss()))
    print(json.dumps(seen))

asyncio.run(main())
"""


@pytest.mark.parametrize("layers", [1, 32])
def test_memory_comes_back_after_unload(tmp_path: Path, layers: int) -> None:
    small = sample_models.mlp(tmp_path / "small.onnx")
    large = sample_models.heavy(tmp_path / "large.onnx", MEGABYTES, layers)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(small), str(large)], cwd=ROOT, capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    (_, before), *rounds = json.loads(done.stdout)
    assert all(loaded - before > 0.8 * MEGABYTES for loaded, _ in rounds)
    kept = [after - before for _, after in rounds]
    assert max(kept) < 0.25 * MEGABYTES, kept
