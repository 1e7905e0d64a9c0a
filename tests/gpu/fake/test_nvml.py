"""The server's reading of GPUs over the fake management library, whose devices are set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
PROGRAM = "import json, dataclasses; from server.system import gpu; print(json.dumps(dataclasses.asdict(gpu.read())))"


def read(**variables: str) -> dict[str, Any]:
    """What a new process reads: the library looks at its variables once."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env={**os.environ, **variables}, check=True, capture_output=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_field_of_every_gpu_is_read() -> None:
    first = "name=NVIDIA H100,sm=90,memory_mib=1000,used_mib=300,mig=0,ecc=1,ecc_errors=2,utilization=35,uuid=GPU-a"
    host = read(FAKE_GPUS=f"{first},driver=580.95.05;name=NVIDIA A100,sm=80,memory_mib=500,mig=1,ecc=0,uuid=GPU-b")
    one, two = host["devices"]
    assert (host["driver"], host["cuda"], host["absent"]) == ("580.95.05", 13000, "")
    assert (one["name"], one["uuid"], one["sm"], one["mig"]) == ("NVIDIA H100", "GPU-a", 90, False)
    assert (one["total_bytes"], one["used_bytes"]) == (1000 << 20, 300 << 20)
    assert (one["ecc"], one["ecc_errors"], one["busy"]) == (True, 2, 0.35)
    assert (two["index"], two["sm"], two["ecc"], two["mig"]) == (1, 80, False, True)
    assert two["busy"] is None, "a divided GPU does not report it"


def test_a_host_without_a_driver_says_so() -> None:
    assert "driver is not visible" in read(FAKE_GPU_DRIVER="absent")["absent"]


def test_a_host_without_a_gpu_has_none() -> None:
    host = read(FAKE_GPUS="none")
    assert host["devices"] == []
