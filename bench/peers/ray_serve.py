"""Ray Serve: request batching, and the settings for throughput from its documentation."""

from __future__ import annotations

from .peer import LOCKS, Deployment, Peer, service

WAIT_S = 0.001
"""The best of 0, 1 and 10 ms by CPU time per request with one connection; within noise of the best with 32."""


def _files(deployment: Deployment) -> dict[str, str]:
    # Paths of Ray's Unix sockets must stay below 107 bytes, so that the scratch folder has a name of one letter.
    return service("ray_serve", deployment, wait_s=WAIT_S, scratch=str(deployment.folder / "r"))


RAY_SERVE = Peer(
    name="ray_serve",
    title="Ray Serve",
    package="ray",
    lock=LOCKS / "ray_serve.txt",
    files=_files,
    command=lambda deployment: [str(deployment.python), "ray_serve_service.py"],
    ready="/-/healthz",
    route="/",
    body=lambda row: {"input": row},
    answer=lambda answer: [float(one) for one in answer["output"]],
    settings=(
        "serve.batch 32, wait 1 ms",
        "the four throughput flags of its page",
        "one replica a core",
        "one thread a session",
        "no HAProxy, which listens on all interfaces",
    ),
    advice=(
        "https://docs.ray.io/en/latest/serve/advanced-guides/performance.html",
        "https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html",
    ),
    environment={
        "RAY_USAGE_STATS_ENABLED": "0",
        # On Linux, Ray's cluster listens on all interfaces. This setting binds it to the loopback, as on other systems.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # The four flags of the page on performance. RAY_SERVE_THROUGHPUT_OPTIMIZED also sets a flag that makes it
        # listen on all interfaces.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
        "RAY_SERVE_LOG_TO_STDERR": "0",
    },
)
