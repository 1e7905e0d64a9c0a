"""The models: artifacts on disk, versions in memory, and which of them answers."""

from .loading import ServedModel
from .registry import LoadOptions, Models

__all__ = ["LoadOptions", "Models", "ServedModel"]
