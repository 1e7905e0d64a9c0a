"""The default server in a process of its own: what is in memory after it has answered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration import sample_models
from tests.integration.server_process import ROOT

NEVER = {
    *("torch", "onnx", "onnxscript", "sagemaker", "boto3", "botocore", "locust", "gevent", "rich", "sklearn", "pandas"),
    *("transformers", "optimize", "bench", "container", "tests", "examples"),
}
COLD_ONLY = {"fastapi", "starlette", "pydantic"}

DRIVER = """
import http.client, json, os, signal, sys, threading
import uvloop
from server.launch.slipway import Slipway
from server.system import listening
from server.settings.reader import read

settings = read(["--port", "0", "--model", sys.argv[1]], {})
seen = {}

def top():
    return sorted({name.partition(".")[0] for name in sys.modules})

def ask(port):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    def send(method, path, body=None, kind="application/json"):
        client.request(method, path, body, {"Content-Type": kind})
        response = client.getresponse()
        response.read()
        return response.status
    while send("GET", "/ping") != 200:
        pass
    row = "0,1,2,3,4,5,6,7"
    tensor = '{"inputs":[{"name":"x","shape":[1,8],"datatype":"FP32","data":[%s]}]}' % row
    seen["statuses"] = [
        send("POST", "/invocations", '{"instances":[[%s]]}' % row),
        send("POST", "/invocations", row, "text/csv"),
        send("POST", "/invocations", "nonsense"),
        send("POST", "/v2/models/mlp/infer", tensor),
        send("GET", "/v2/models/mlp"), send("GET", "/v2"), send("GET", "/v2/health/ready"), send("GET", "/metrics"),
    ]
    seen["hot"] = top()
    seen["statuses"] += [send("GET", "/docs"), send("POST", "/invocations?cold=1", '{"instances":[[%s]]}' % row)]
    seen["cold"] = top()
    print(json.dumps(seen), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

with listening.listen("127.0.0.1", 0, 16) as sock:
    threading.Thread(target=ask, args=sock.getsockname()[1:], daemon=True).start()
    sys.exit(uvloop.run(Slipway(settings).run(sock)))
"""


def test_a_server_that_answers_has_imported_nothing_of_training_deployment_or_load(tmp_path: Path) -> None:
    model = sample_models.mlp(tmp_path / "mlp.onnx")
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(model)], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    seen = json.loads(done.stdout)
    assert seen["statuses"] == [200, 200, 400, 200, 200, 200, 200, 200, 200, 200]
    assert set(seen["hot"]) >= {"server", "uvicorn", "onnxruntime"}
    assert set(seen["hot"]) & (NEVER | COLD_ONLY) == set()
    assert set(seen["cold"]) >= COLD_ONLY
    assert set(seen["cold"]) & NEVER == set()
