"""The table of peers, Slipway first."""

from __future__ import annotations

from .bentoml import BENTOML
from .litserve import LITSERVE
from .mlserver import MLSERVER
from .peer import Peer
from .ray_serve import RAY_SERVE
from .slipway import SLIPWAY
from .torchserve import TORCHSERVE
from .triton import TRITON

PEERS: tuple[Peer, ...] = (SLIPWAY, LITSERVE, MLSERVER, BENTOML, RAY_SERVE, TORCHSERVE, TRITON)
"""Ratios compare the first peer with each of the others."""
