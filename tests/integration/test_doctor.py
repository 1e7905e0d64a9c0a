"""``serve.py doctor`` as a process: whole examinations, and the same last line as the server's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from server import artifact as artifacts
from server.artifact import Batching, Manifest
from server.backends import BackendOptions, onnxruntime
from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import ROOT


def doctor(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "SAGEMAKER_"))}
    return subprocess.run(
        [sys.executable, "serve.py", "doctor", "--port", "0", *arguments],
        cwd=ROOT,
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def checks(*arguments: str, **environ: str) -> tuple[int, dict[str, Any]]:
    done = doctor("--json", *arguments, **environ)
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, told


def with_samples(root: Path, spoil: float = 0.0) -> Path:
    """An artifact of the MLP with a sample, and an answer to it that is true unless it is spoiled."""
    root.mkdir()
    path = sample_models.mlp(root / "mlp.onnx")
    session = onnxruntime.load(path, BackendOptions())
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    answer = session.run([x])[0][:, : 2 if spoil else None]
    stored: dict[str, Any] = {"input:x": x, "output:y": answer}
    np.savez(root / artifacts.SAMPLES, **stored)
    artifacts.write(root, Manifest("mlp", "7", "onnxruntime", "mlp.onnx", session.spec, batching=Batching((1, 4))))
    return root


def test_a_healthy_model_is_loaded_and_answers_its_own_sample(tmp_path: Path) -> None:
    code, told = checks("--model", str(with_samples(tmp_path / "model")))
    assert code == 0
    assert told["ok"] is True
    by_name = {one["check"]: one["text"] for one in told["checks"]}
    assert by_name["sample"] == "mlp answers its own sample, at most 0 from the stored answer"
    assert by_name["load"].startswith("ready after ")


def test_an_answer_of_another_size_than_the_stored_one_is_fatal(tmp_path: Path) -> None:
    code, told = checks("--model", str(with_samples(tmp_path / "model", spoil=1)))
    assert code == 1
    assert told["fatal"].startswith("mlp answers its own sample otherwise than stored")


def test_the_last_line_is_the_one_with_which_the_server_dies(tmp_path: Path, serve: Serve) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"this is no model")
    examined = doctor("--model", str(broken))
    server = serve(broken)
    assert server.exit_code() == 1
    assert examined.returncode == 1
    last = examined.stdout.splitlines()[-1]
    assert last.startswith("cannot serve: ONNX Runtime ")
    assert server.log().splitlines()[-1].endswith(last)


def test_a_model_that_takes_its_process_along_does_not_take_the_doctor(tmp_path: Path) -> None:
    root = with_samples(tmp_path / "model")
    (root / "mlp.onnx").write_bytes(b"")
    code, told = checks("--model", str(root), "--no-verify-digests", "--limit-s", "20")
    assert code == 1
    assert "mlp.onnx" in told["fatal"]


def test_a_start_that_takes_too_long_is_told(tmp_path: Path) -> None:
    code, told = checks("--model", str(with_samples(tmp_path / "model")), "--limit-s", "0.001")
    assert code == 1
    assert told["fatal"].startswith("not ready after 0.001 s")


def test_looking_only_loads_nothing(tmp_path: Path) -> None:
    code, told = checks("--model", str(with_samples(tmp_path / "model")), "--no-start")
    assert code == 0
    assert "load" not in {one["check"] for one in told["checks"]}


def test_a_wrong_setting_is_the_first_cause_and_the_rest_is_still_examined(tmp_path: Path) -> None:
    code, told = checks("--model", str(tmp_path / "none"), SLIPWAY_PROT="1")
    assert code == 1
    assert told["fatal"].startswith("unknown environment variable SLIPWAY_PROT; the nearest is SLIPWAY_PORT")
    assert [one["check"] for one in told["checks"] if one["level"] == "fatal"] == ["settings", "model"]


def test_a_device_that_is_not_there_stops_the_server_instead_of_serving_slowly(tmp_path: Path, serve: Serve) -> None:
    server = serve(sample_models.mlp(tmp_path / "mlp.onnx"), "--device", "cuda")
    assert server.exit_code() == 1
    last = server.log().splitlines()[-1]
    # Some hosts have a CUDA runtime, others have none.
    assert any(
        f"cannot serve: {reason}" in last for reason in ("GPU 0 cannot be used", "the CUDA runtime", "the device")
    )
