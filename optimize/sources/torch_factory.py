"""Source: a ``module:attribute`` that builds a ``torch.nn.Module``, with weights that are read without running code."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.artifact import digest

from ..errors import BadInput
from ..evaluation.dataset import Dataset
from . import SourceModel, SourceSpec
from .torch_module import brief, input_names, kind, reference_model

if TYPE_CHECKING:
    import torch


def load(request: SourceSpec, data: Dataset) -> SourceModel:
    """Build the module, load its weights strictly, and run it on two rows of ``data``.

    The inputs are the parameters of ``forward``, looked up in ``data`` by name; parameters with a default are optional.
    The mapping that the module returns names the outputs, or the user does, or they are ``output``, ``output_1`` ...
    Raises BadInput naming the step that failed.
    """
    factory = resolve(request.reference)
    module = build(request.reference, request.weights)
    digests = {"factory": digest_of_code(factory)}
    if request.weights is not None:
        digests["weights"] = digest(request.weights)
    present = {key: value for key, value in digests.items() if value}
    return reference_model(request, module, input_names(module, data), data, present)


def build(reference: str, weights: Path | None) -> torch.nn.Module:
    """Build the module with its weights, on the CPU and in evaluation mode. Raises BadInput."""
    module = _build(reference, resolve(reference))
    if weights is not None:
        _load_weights(module, weights)
    return module.eval()


def resolve(reference: str) -> Any:
    """Import ``module:attribute``. Raises BadInput if it does not exist or if its import fails."""
    name, colon, attribute = reference.partition(":")
    if not (name and colon and attribute):
        raise BadInput(f"{reference!r} is not of the form module:attribute, for example examples.digits.model:build")
    try:
        return getattr(importlib.import_module(name), attribute)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"{reference!r}: no module named {error.name!r}; run the command from the directory that contains it"
        ) from error
    except AttributeError as error:
        raise BadInput(f"{reference!r}: {name} has no attribute {attribute!r}") from error
    except Exception as error:
        raise BadInput(f"{reference!r}: importing {name} failed with {brief(error)}") from error


def _build(reference: str, factory: Any) -> torch.nn.Module:
    import torch

    if not callable(factory):
        raise BadInput(f"{reference!r} is {kind(factory)}, not a function that builds a torch.nn.Module")
    try:
        module = factory()
    except Exception as error:
        raise BadInput(f"{reference}() failed with {brief(error)}; it is called without arguments") from error
    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"{reference}() returned {kind(module)}, not a torch.nn.Module")
    return module.cpu()


def _load_weights(module: torch.nn.Module, path: Path) -> None:
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled_tensors(path)
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise BadInput(f"{path} does not fit the model: {' '.join(lines)}") from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} cannot be read as safetensors: {error}") from error
    return tensors


def _read_pickled_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of torch.save with the reader that only builds tensors and plain containers and runs no code."""
    import torch

    if path.suffix not in (".pt", ".pth", ".bin", ".ckpt"):
        raise BadInput(f"{path}: weights must be a .safetensors, .pt, .pth, .bin or .ckpt file")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadInput(
            f"{path} is damaged or holds objects besides tensors, which can run code, so it is not opened. Save "
            "the weights with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise BadInput(f"{path} does not hold a state_dict: save model.state_dict()")
    return loaded


def digest_of_code(factory: Any) -> str:
    try:
        path = inspect.getsourcefile(factory)
    except TypeError:
        return ""
    return digest(Path(path)) if path and Path(path).is_file() else ""
