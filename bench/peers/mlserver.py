"""MLServer: adaptive batching, and a custom runtime, because MLServer has none for ONNX files."""

from __future__ import annotations

import json

from .peer import HOST, LOCKS, MAX_BATCH_SIZE, Deployment, Peer, infer_answer, infer_body, service

WAIT_S = 0.001
"""MLServer's documentation recommends no value."""


def _files(deployment: Deployment) -> dict[str, str]:
    http_port, grpc_port, metrics_port = deployment.ports[:3]
    settings = {
        "debug": False,
        "host": HOST,
        "http_port": http_port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        # On one core a pool of processes adds communication and no parallel work.
        "parallel_workers": 0 if deployment.workers == 1 else deployment.workers,
    }
    model = {
        "name": "model",
        "implementation": "mlserver_service.OnnxModel",
        "parameters": {"uri": str(deployment.model)},
        "max_batch_size": MAX_BATCH_SIZE,
        "max_batch_time": WAIT_S,
    }
    return {
        **service("mlserver", deployment),
        "settings.json": json.dumps(settings),
        "model-settings.json": json.dumps(model),
    }


MLSERVER = Peer(
    name="mlserver",
    title="MLServer",
    package="mlserver",
    lock=LOCKS / "mlserver.txt",
    files=_files,
    command=lambda deployment: [deployment.script("mlserver"), "start", "."],
    ready="/v2/models/model/ready",
    route="/v2/models/model/infer",
    body=infer_body,
    answer=infer_answer,
    settings=(
        "max_batch_size 32",
        "max_batch_time 1 ms",
        "custom ONNX Runtime runtime",
        "no pool on one core, else a worker a core",
        "one thread a session",
    ),
    advice=(
        "https://docs.seldon.ai/mlserver/user-guide/adaptive-batching",
        "https://docs.seldon.ai/mlserver/user-guide/parallel-inference",
    ),
)
