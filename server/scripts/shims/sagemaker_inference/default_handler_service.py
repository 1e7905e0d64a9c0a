"""The toolkit's class handler: a transformer behind ``initialize`` and ``handle``."""

from __future__ import annotations

from typing import Any

from .transformer import Transformer


class DefaultHandlerService:
    """The base class of the frameworks' handler services."""

    def __init__(self, transformer: Any = None) -> None:
        self._service = transformer or Transformer()

    def initialize(self, context: Any) -> None:
        self._service.validate_and_initialize(model_dir=context.system_properties["model_dir"], context=context)

    def handle(self, data: Any, context: Any) -> Any:
        return self._service.transform(data, context)
