"""Triton with its Python backend, through PyTriton, which pip can install."""

from __future__ import annotations

import sysconfig

from .peer import LOCKS, Peer, infer_answer, infer_body, service

WAIT_US = 0
"""Triton's default queue delay. A free instance starts at once, and batches form while all instances are busy."""

TRITON = Peer(
    name="triton",
    title="Triton (PyTriton)",
    package="nvidia-pytriton",
    lock=LOCKS / "triton.txt",
    files=lambda deployment: service("triton", deployment, wait_us=WAIT_US),
    command=lambda deployment: [str(deployment.python), "triton_service.py"],
    ready="/v2/models/model/ready",
    route="/v2/models/model/infer",
    body=infer_body,
    answer=infer_answer,
    settings=(
        "max_batch_size 32",
        "dynamic batcher, delay 0 (default)",
        "an instance a core",
        "one thread a session",
        "no gRPC, no metrics",
    ),
    advice=(
        "https://triton-inference-server.github.io/pytriton/latest/reference/model_config",
        "https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/batcher.html",
    ),
    # Triton's Python backend loads libpython, which must be that of the environment's interpreter.
    environment={"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))},
)
