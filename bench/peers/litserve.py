"""LitServe: dynamic batching, and the queue that its documentation recommends above 100 requests/s."""

from __future__ import annotations

from .peer import LOCKS, Deployment, Peer, service

WAIT_S = 0.001
"""The best of 0, 1, 10 and 50 ms here, for both models. LitServe's documentation asks users to try values."""


def _files(deployment: Deployment) -> dict[str, str]:
    return service("litserve", deployment, wait_s=WAIT_S)


LITSERVE = Peer(
    name="litserve",
    title="LitServe",
    package="litserve",
    lock=LOCKS / "litserve.txt",
    files=_files,
    command=lambda deployment: [str(deployment.python), "litserve_service.py"],
    ready="/health",
    route="/predict",
    body=lambda row: {"input": row},
    answer=lambda answer: [float(one) for one in answer["output"]],
    settings=("max_batch_size 32", "batch_timeout 1 ms", "fast_queue", "one worker a core", "one thread a session"),
    advice=(
        "https://lightning.ai/docs/litserve/features/batching",
        "https://lightning.ai/docs/litserve/api-reference/litserver",
    ),
)
