"""Loading: one builder makes served models from artifacts, one module for each kind of model."""

from .builder import Loader

__all__ = ["Loader"]
