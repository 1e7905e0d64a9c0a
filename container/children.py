"""The folder whose modules and ``serve.py`` run as children; Slipway is run from its checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
