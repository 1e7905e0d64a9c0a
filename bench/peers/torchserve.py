"""TorchServe: batching in its Java front end, an ONNX Runtime handler behind it."""

from __future__ import annotations

from collections.abc import Sequence

from .peer import HOST, LOCKS, MAX_BATCH_SIZE, Peer, Place, service

WAIT_MS = 1


def _files(place: Place) -> dict[str, str]:
    http, management, metrics, grpc_inference, grpc_management = place.ports[:5]
    properties = {
        "inference_address": f"http://{HOST}:{http}",
        "management_address": f"http://{HOST}:{management}",
        "metrics_address": f"http://{HOST}:{metrics}",
        "grpc_inference_address": HOST,
        "grpc_management_address": HOST,
        "grpc_inference_port": grpc_inference,
        "grpc_management_port": grpc_management,
        "disable_token_authorization": "true",
        "model_store": place.folder,
        "load_models": "model.mar",
    }
    model = {
        "minWorkers": place.workers,
        "maxWorkers": place.workers,
        "batchSize": MAX_BATCH_SIZE,
        "maxBatchDelay": WAIT_MS,
    }
    return {
        **service("torchserve", place),
        "config.properties": "".join(f"{key}={value}\n" for key, value in properties.items()),
        "model-config.yaml": "".join(f"{key}: {value}\n" for key, value in model.items()),
        # Its default writes a line for every request.
        "log4j2.xml": '<Configuration><Loggers><Root level="warn"/></Loggers></Configuration>\n',
    }


def _prepare(place: Place) -> Sequence[Sequence[str]]:
    archive = [place.script("torch-model-archiver"), "--model-name", "model", "--version", "1.0"]
    files = ["--serialized-file", str(place.model), "--handler", "torchserve_service.py"]
    return [[*archive, *files, "--config-file", "model-config.yaml"]]


def _command(place: Place) -> Sequence[str]:
    files = ["--ts-config", "config.properties", "--log-config", "log4j2.xml"]
    return [place.script("torchserve"), "--start", "--foreground", "--ncs", *files]


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
