"""BentoML: adaptive batching with its own latency target, and one worker for each core."""

from __future__ import annotations

from collections.abc import Sequence

from .peer import HOST, LOCKS, Peer, Place, service

MAX_LATENCY_MS = 60_000
"""Its default. It has no window to tune: this is what a request may take before it is given up."""


def _command(place: Place) -> Sequence[str]:
    return [place.script("bentoml"), "serve", "bentoml_service:Model", "--host", HOST, "--port", str(place.port)]


BENTOML = Peer(
    name="bentoml",
    title="BentoML",
    package="bentoml",
    lock=LOCKS / "bentoml.txt",
    files=lambda place: service("bentoml", place, max_latency_ms=MAX_LATENCY_MS),
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
