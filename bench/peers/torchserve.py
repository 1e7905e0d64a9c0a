"""TorchServe: batching in its Java front end, and a custom handler with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

from .peer import HOST, LOCKS, MAX_BATCH_SIZE, Deployment, Peer, service

WAIT_MS = 1


def _files(deployment: Deployment) -> dict[str, str]:
    http, management, metrics, grpc_inference, grpc_management = deployment.ports[:5]
    properties = {
        "inference_address": f"http://{HOST}:{http}",
        "management_address": f"http://{HOST}:{management}",
        "metrics_address": f"http://{HOST}:{metrics}",
        "grpc_inference_address": HOST,
        "grpc_management_address": HOST,
        "grpc_inference_port": grpc_inference,
        "grpc_management_port": grpc_management,
        "disable_token_authorization": "true",
        "model_store": deployment.folder,
        "load_models": "model.mar",
    }
    model = {
        "minWorkers": deployment.workers,
        "maxWorkers": deployment.workers,
        "batchSize": MAX_BATCH_SIZE,
        "maxBatchDelay": WAIT_MS,
    }
    return {
        **service("torchserve", deployment),
        "config.properties": "".join(f"{key}={value}\n" for key, value in properties.items()),
        "model-config.yaml": "".join(f"{key}: {value}\n" for key, value in model.items()),
        # TorchServe's default configuration logs a line for each request.
        "log4j2.xml": '<Configuration><Loggers><Root level="warn"/></Loggers></Configuration>\n',
    }


def _prepare(deployment: Deployment) -> Sequence[Sequence[str]]:
    archive = [deployment.script("torch-model-archiver"), "--model-name", "model", "--version", "1.0"]
    files = ["--serialized-file", str(deployment.model), "--handler", "torchserve_service.py"]
    return [[*archive, *files, "--config-file", "model-config.yaml"]]


def _command(deployment: Deployment) -> Sequence[str]:
    files = ["--ts-config", "config.properties", "--log-config", "log4j2.xml"]
    return [deployment.script("torchserve"), "--start", "--foreground", "--ncs", *files]


TORCHSERVE = Peer(
    name="torchserve",
    title="TorchServe",
    package="torchserve",
    lock=LOCKS / "torchserve.txt",
    files=_files,
    command=_command,
    prepare=_prepare,
    ready="/ping",
    route="/predictions/model",
    body=lambda row: {"input": row},
    answer=lambda answer: [float(one) for one in answer["output"]],
    settings=(
        "batchSize 32",
        "maxBatchDelay 1 ms",
        "one worker a core",
        "custom ONNX Runtime handler",
        "one thread a session",
        "logging of warnings only",
    ),
    advice=(
        "https://pytorch.org/serve/batch_inference_with_ts.html",
        "https://pytorch.org/serve/performance_guide.html",
    ),
    needs=("java",),
    ready_within_s=90.0,
)
