"""The failure of a deployment: the platform's reason, the first fatal line of the log, and what to do."""

from __future__ import annotations

import re

from ..errors import DeployError, DeploymentFailed, QuotaReached

ADVICE = (
    (r"cannot serve: ", "the line names the remedy; try it here first: python -m container.local check ARTIFACT"),
    (
        r"exec format error|exec user process",
        "the image is for another processor: build it with --platform linux/amd64",
    ),
    (
        r"no kernel image|CUDA driver version is insufficient|driver",
        "choose a host image with a newer driver: --inference-ami",
    ),
    (r"ping health check", "raise --startup-timeout, or try it here first: python -m container.local check ARTIFACT"),
    (r"alarm", "the alarms stopped it: look at status and at the metrics of the endpoint"),
    (r"out of memory|killed|OOM|137", "choose an instance type with more memory"),
    (r"download|model data|access denied", "check that --role may read the model archive"),
    (r"image|ecr", "push the image first (push), and check --image and that --role may pull it"),
)
"""Pattern of the reason or the log line to what to do."""


def of(name: str, reason: str, line: str, *, kept: bool) -> DeployError:
    """The failure to raise. ``kept``: what was created is still there."""
    if re.search(r"InsufficientInstanceCapacity|capacity", reason):
        return QuotaReached(f"{name}: {reason}; try another instance type or region, or later")
    both = f"{line} {reason}"
    advice = next((text for pattern, text in ADVICE if re.search(pattern, both, re.IGNORECASE)), "read logs")
    log = f'; first fatal line of the log: "{line}"' if line else ""
    left = "what was created is kept (--keep); remove it with down" if kept else "nothing of it was left behind"
    return DeploymentFailed(f"{name} failed: {reason or 'no reason given'}{log}; {advice}; {left}")
