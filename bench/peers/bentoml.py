"""BentoML: adaptive batching with its own latency target, and one worker for each core."""

from __future__ import annotations

from collections.abc import Sequence

from .peer import HOST, LOCKS, Deployment, Peer, service

MAX_LATENCY_MS = 60_000
"""BentoML's default: the time after which it refuses a request. It has no setting for the batch delay."""


def _command(deployment: Deployment) -> Sequence[str]:
    return [
        deployment.script("bentoml"),
        "serve",
        "bentoml_service:Model",
        "--host",
        HOST,
        "--port",
        str(deployment.port),
    ]


BENTOML = Peer(
    name="bentoml",
    title="BentoML",
    package="bentoml",
    lock=LOCKS / "bentoml.txt",
    files=lambda deployment: service("bentoml", deployment, max_latency_ms=MAX_LATENCY_MS),
    command=_command,
    ready="/readyz",
    route="/predict",
    body=lambda row: {"x": [row]},
    answer=lambda answer: [float(one) for one in answer[0]],
    settings=(
        "batchable, max_batch_size 32",
        "max_latency_ms 60000 (default)",
        "one worker a core",
        "access log off",
        "one thread a session",
    ),
    advice=(
        "https://docs.bentoml.com/en/latest/guides/adaptive-batching.html",
        "https://docs.bentoml.com/en/latest/guides/concurrency.html",
    ),
    environment={"BENTOML_DO_NOT_TRACK": "True"},
)
