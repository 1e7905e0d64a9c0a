"""Slipway from this checkout, with its default settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .peer import HOST, Deployment, Peer

ROOT = Path(__file__).resolve().parents[2]


def _command(deployment: Deployment) -> Sequence[str]:
    serve = str(ROOT / "serve.py")
    return [sys.executable, serve, "--model", str(deployment.model), "--host", HOST, "--port", str(deployment.port)]


SLIPWAY = Peer(
    name="slipway",
    title="Slipway",
    package=None,
    lock=None,
    files=lambda _place: {},
    command=_command,
    ready="/ping",
    route="/invocations",
    body=lambda row: {"instances": [row]},
    answer=lambda answer: [float(one) for one in answer["predictions"][0]],
    settings=("defaults: instances, threads and batches from the cores and the measured costs",),
    advice=("docs/operations.md",),
)
