"""The platform's other conditions: a foreign user that may write nowhere, sessions, custom attributes, a fixed port."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.server_process import ROOT, ServerProcess, eventually, server_process

POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
"""Root as other users are: the permissions of files hold for it too."""
CSV = {"Content-Type": "text/csv; charset=utf-8"}
ROW = b"1,2,3,4"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
SESSION = "X-Amzn-SageMaker-Session-Id"


@pytest.fixture(scope="module")
def stateful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("stateful")
    environ = {"SAGEMAKER_ENABLE_STATEFUL_SESSIONS": "true", "SAGEMAKER_REGION": "eu-west-1", "SAGEMAKER_NEW": "x"}
    with server_process(directory, sample_models.fake(directory / "model"), "--access-log", environ=environ) as server:
        yield server.ready()


def test_a_session_goes_through_the_whole_server(stateful: ServerProcess) -> None:
    opened = stateful.post("/invocations", ROW, {**CSV, SESSION: "NEW_SESSION"})
    assert opened.json() == {"predictions": [[2.0, 4.0, 6.0, 8.0]]}
    identity, _, ends = opened.headers["x-amzn-sagemaker-new-session-id"].partition("; Expires=")
    assert ends.endswith("Z")
    assert stateful.post("/invocations", ROW, {**CSV, SESSION: identity}).status == 200
    closed = stateful.post("/invocations", {"requestType": "CLOSE"}, {SESSION: identity})
    assert closed.headers["x-amzn-sagemaker-closed-session-id"] == identity
    assert stateful.post("/invocations", ROW, {**CSV, SESSION: identity}).status == 400


def test_without_the_setting_a_session_is_refused(inline_server: ServerProcess) -> None:
    refused = inline_server.post("/invocations", ROW, {**CSV, SESSION: "NEW_SESSION"})
    assert (refused.status, refused.code) == (400, "malformed_input")
    assert "--sessions" in refused.json()["error"]


def test_custom_attributes_come_back_only_when_that_is_asked(inline_server: ServerProcess) -> None:
    def back(sent: str) -> str | None:
        answer = inline_server.post("/invocations", ROW, {**CSV, ATTRIBUTES: sent})
        assert answer.status == 200
        return answer.headers.get(ATTRIBUTES.lower())

    assert back("trace=1") is None
    assert back("trace=1,slipway-echo") == "trace=1,slipway-echo"
    both = back("slipway-echo,slipway-timing,trace=1")
    assert both is not None
    assert both.startswith("slipway-echo,slipway-timing,trace=1,receive=")
    filler = "slipway-echo,slipway-timing," + "x" * 990
    assert back(filler) == filler


@pytest.mark.parametrize("sent", ["x" * 1025, "slipway-echo \x7f", "slipway-echo ü"])
def test_custom_attributes_beyond_the_platforms_limits_are_refused(inline_server: ServerProcess, sent: str) -> None:
    answer = inline_server.request(
        "POST", "/invocations", ROW, {**CSV, ATTRIBUTES: sent.encode("latin-1").decode("latin-1")}
    )
    assert (answer.status, answer.code) == (400, "malformed_input")


def test_the_access_log_knows_the_callers_id(stateful: ServerProcess) -> None:
    stateful.post("/invocations", ROW, {**CSV, "X-Amzn-SageMaker-Inference-Id": "call-7"})
    eventually(lambda: "ms call-7" in stateful.log(), "the id is in the access log")


def test_what_the_platform_has_set_is_one_line_at_start(stateful: ServerProcess) -> None:
    lines = [line for line in stateful.log().splitlines() if "platform variables are set" in line]
    assert len(lines) == 1
    assert "SAGEMAKER_ENABLE_STATEFUL_SESSIONS is --sessions" in lines[0]
    assert "SAGEMAKER_REGION" in lines[0]
    assert "SAGEMAKER_NEW" not in stateful.log()


def everything_below(root: Path) -> set[Path]:
    return set(root.rglob("*"))


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write everywhere")
def test_a_user_who_may_write_nowhere_but_in_tmp_serves(tmp_path: Path) -> None:
    model = sample_models.mlp(tmp_path / "model" / "mlp.onnx")
    home, work, scratch = (tmp_path / name for name in ("home", "work", "scratch"))
    for folder, mode in ((home, 0o555), (work, 0o555), (scratch, 0o777)):
        folder.mkdir()
        folder.chmod(mode)
    before = everything_below(home) | everything_below(work) | everything_below(model.parent)
    environ = {"HOME": str(home), "TMPDIR": str(scratch), "PATH": "/usr/bin:/bin"}
    log_path = tmp_path / "stderr.log"
    with log_path.open("wb") as log:
        command = [sys.executable, str(ROOT / "serve.py"), "serve", "--port", "0", "--model", str(model)]
        command += ["--instances", "1"]
        prefix = POWERLESS if os.geteuid() == 0 else []
        process = subprocess.Popen([*prefix, *command], cwd=work, env=environ, stderr=log)
    try:
        attempt = [*prefix, sys.executable, "-c", "open('x', 'w')"]
        assert subprocess.run(attempt, cwd=work, stderr=subprocess.DEVNULL, check=False).returncode != 0
        eventually(lambda: "model ready" in log_path.read_text() or process.poll() is not None, "it serves, or ends")
        assert process.poll() is None, log_path.read_text()
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert everything_below(home) | everything_below(work) | everything_below(model.parent) == before
    assert everything_below(scratch) == set()
