"""The toolkit's base class of framework handlers: defaults for the functions that a script does not define."""

from __future__ import annotations

from typing import Any

from . import decoder, encoder


class DefaultInferenceHandler:
    """Defines no model and no prediction; reads and writes JSON, CSV and npy."""

    def default_model_fn(self, model_dir: str, context: Any = None) -> Any:
        raise NotImplementedError("define a model_fn: there is no default way to load a model")

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:  # noqa: ARG002 - the interface
        return decoder.decode(input_data, content_type)

    def default_predict_fn(self, data: Any, model: Any, context: Any = None) -> Any:
        raise NotImplementedError("define a predict_fn: there is no default way to predict")

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:  # noqa: ARG002 - the interface
        return encoder.encode(prediction, accept), accept

    def default_pre_model_fn(self, model_dir: str, context: Any = None) -> None:
        """Nothing."""

    def default_model_warmup_fn(self, model_dir: str, model: Any, context: Any = None) -> None:
        """Nothing."""
