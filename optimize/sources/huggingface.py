"""Source: a Hugging Face folder with config.json and safetensors, for architectures of the transformers package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.artifact import digest

from ..errors import BadInput
from ..evaluation.dataset import Dataset
from ..sandbox.captured_output import captured
from . import SourceModel, SourceSpec, axes
from .axes import Axis
from .torch_module import brief, input_names, reference_model

if TYPE_CHECKING:
    import torch

TOKENS, SAMPLES = "tokens", "samples"
SEQUENCES = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "bbox")
"""The inputs of text models, int64 ``[batch, tokens]``; boxes have a third axis of size 4."""

AUDIO = ("input_values", "attention_mask")
"""The inputs of models of sound waves, ``[batch, samples]``."""


def load(request: SourceSpec, data: Dataset) -> SourceModel:
    """Load the model of the folder, offline and without code from the folder.

    The outputs are the tensors that the model returns. A sentence-transformers folder has one output, ``embedding``;
    the graph includes its pooling and normalization. The number of tokens is a free axis. Raises BadInput.
    """
    folder = request.path
    model = _model(folder)
    module = wrap(model, folder)
    if model.main_input_name not in data.inputs:
        raise BadInput(f"{folder} takes {model.main_input_name!r}, the data holds {', '.join(data.inputs)}")
    inputs = input_names(module, data)
    free = request.axes or axes.without(_sequences(inputs, data), request.fixed)
    named = SourceSpec(request.reference, None, request.outputs, free)
    digests = {path.name: digest(path) for path in sorted(folder.glob("*.safetensors"))}
    digests = {"config.json": digest(folder / "config.json"), **digests}
    source = reference_model(named, module, inputs, data, digests)
    return replace(source, axes_required=bool(request.axes))


def _sequences(inputs: tuple[str, ...], data: Dataset) -> tuple[Axis, ...]:
    """Return the axes of tokens, or of samples of sound."""
    if "input_values" in inputs:
        return tuple(Axis(name, 1, SAMPLES) for name in inputs if name in AUDIO and data.inputs[name].ndim == 2)
    return tuple(Axis(name, 1, TOKENS) for name in inputs if name in SEQUENCES and "input_ids" in inputs)


def _model(folder: Path) -> Any:
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise BadInput("Hugging Face folders need the extra 'huggingface': pip install -e '.[huggingface]'") from error
    config = _json(folder / "config.json")
    if "auto_map" in config:
        raise BadInput(f"{folder} needs its own code (auto_map in config.json), which is never run")
    name = str((config.get("architectures") or ["AutoModel"])[0])
    if name.endswith(("CausalLM", "LMHeadModel", "ConditionalGeneration")):
        raise BadInput(f"{folder}: {name} generates text step by step, which is not served")
    architecture = getattr(transformers, name, None)
    if architecture is None:
        raise BadInput(f"{folder}: transformers {transformers.__version__} has no architecture {name!r}")
    try:
        with captured():
            # Eager attention exports without the guards that prevent later fusions.
            return architecture.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                attn_implementation="eager",
            )
    except Exception as error:
        raise BadInput(f"{folder} cannot be loaded as {name}: {brief(error)}") from error


def wrap(model: Any, folder: Path) -> torch.nn.Module:
    """Wrap ``model`` in a module with named inputs that returns a mapping of tensors. Raises BadInput."""
    import torch

    pool = _pooling(folder)

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            input_ids: torch.Tensor | None = None,
            attention_mask: torch.Tensor | None = None,
            token_type_ids: torch.Tensor | None = None,
            position_ids: torch.Tensor | None = None,
            bbox: torch.Tensor | None = None,
            pixel_values: torch.Tensor | None = None,
            pixel_mask: torch.Tensor | None = None,
            input_values: torch.Tensor | None = None,
            input_features: torch.Tensor | None = None,
        ) -> Mapping[str, torch.Tensor]:
            # The exporters need named parameters, and every model takes some of these.
            values = {
                "input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids,
                "position_ids": position_ids, "bbox": bbox, "pixel_values": pixel_values, "pixel_mask": pixel_mask,
                "input_values": input_values, "input_features": input_features,
            }  # fmt: skip
            given = {name: value for name, value in values.items() if value is not None}
            result = self.model(**given, return_dict=True)
            if pool is not None:
                return {"embedding": pool(result.last_hidden_state, given["attention_mask"])}
            return {name: value for name, value in result.items() if isinstance(value, torch.Tensor)}

    return Wrapped()


def _pooling(folder: Path) -> Any:
    """Return the pooling of a sentence-transformers folder as a function of states and mask; None for other folders."""
    import torch

    if not (folder / "modules.json").is_file():
        return None
    kinds = {str(row["type"]).rpartition(".")[2]: str(row.get("path", "")) for row in _json(folder / "modules.json")}
    unknown = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise BadInput(f"{folder}: the module {unknown[0]!r} after the model is not supported")
    settings = _json(folder / kinds["Pooling"] / "config.json") if "Pooling" in kinds else {}
    modes = sorted(key for key, value in settings.items() if key.startswith("pooling_mode_") and value)
    if modes not in (["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
        raise BadInput(f"{folder}: pooling by {', '.join(modes) or 'nothing'} is not supported; mean and cls are")
    first = modes == ["pooling_mode_cls_token"]

    def pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask.unsqueeze(-1).to(states.dtype)
        pooled = states[:, 0] if first else (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=-1) if "Normalize" in kinds else pooled

    return pool


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
