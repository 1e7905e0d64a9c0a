"""Source: a ``module:attribute`` that builds a ``torch.nn.Module``, and its weights in a safetensors file."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.artifact import digest
from server.tensors import Array

from ..dataset import Dataset
from ..errors import BadInput
from . import ReferenceModel

if TYPE_CHECKING:
    import torch


def load(reference: str, weights: Path | None, data: Dataset, outputs: Sequence[str] = ()) -> ReferenceModel:
    """Build the module, load its weights strictly, and try it on two rows of ``data``.

    Inputs are the parameters of ``forward``, found in ``data`` by name; a parameter with a default may be missing
    there. Outputs are named by the mapping that the module returns, or by ``outputs``, or ``output``, ``output_1`` ...
    Raises BadInput, saying which of these did not work.
    """
    factory = resolve(reference)
    module = _build(reference, factory)
    digests = {"factory": _digest_of_code(factory)}
    if weights is not None:
        _load_weights(module, weights)
        digests["weights"] = digest(weights)
    module.eval()
    inputs = _input_names(module, data)
    example = data.select(inputs).batch(2)
    names = _output_names(reference, call(module, example), tuple(outputs))
    return ReferenceModel(reference, module, inputs, names, {key: value for key, value in digests.items() if value})


def resolve(reference: str) -> Any:
    """Import ``module:attribute``. Raises BadInput when there is no such thing, or its import fails."""
    name, colon, attribute = reference.partition(":")
    if not (name and colon and attribute):
        raise BadInput(f"{reference!r} is not of the form module:attribute, for example examples.digits.model:build")
    try:
        return getattr(importlib.import_module(name), attribute)
    except ModuleNotFoundError as error:
        raise BadInput(f"{reference!r}: no module named {error.name!r}; run from the directory it is in") from error
    except AttributeError as error:
        raise BadInput(f"{reference!r}: {name} has no attribute {attribute!r}") from error
    except Exception as error:
        raise BadInput(f"{reference!r}: importing {name} failed with {_brief(error)}") from error


def call(module: torch.nn.Module, inputs: Mapping[str, Array]) -> Any:
    """Run the module on arrays, without gradients; returns what it returns. Raises BadInput when it fails."""
    import torch

    try:
        with torch.inference_mode():
            return module(**{name: torch.from_numpy(array.copy()) for name, array in inputs.items()})
    except Exception as error:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
        raise BadInput(f"the model fails on rows of the data ({shapes}): {_brief(error)}") from error


def flatten(result: Any) -> list[Array]:
    """What a module returned, as arrays in its own order: a tensor, a sequence of them, or a mapping's values.

    Raises BadInput for anything else.
    """
    import torch

    values = list(result.values()) if isinstance(result, Mapping) else result
    tensors = list(values) if isinstance(values, list | tuple) else [values]
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise BadInput(f"forward() must return a tensor, a tuple of tensors or a dict of them, not {_kind(result)}")
    return [np.asarray(tensor.detach().cpu().numpy()) for tensor in tensors]


def _build(reference: str, factory: Any) -> torch.nn.Module:
    import torch

    if not callable(factory):
        raise BadInput(f"{reference!r} is {_kind(factory)}, not a function that builds a torch.nn.Module")
    try:
        module = factory()
    except Exception as error:
        raise BadInput(f"{reference}() failed with {_brief(error)}; it is called without arguments") from error
    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"{reference}() returned {_kind(module)}, not a torch.nn.Module")
    return module.cpu()


def _load_weights(module: torch.nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    if path.suffix != ".safetensors":
        raise BadInput(
            f"{path} is not a .safetensors file: other formats can run code when they are opened; "
            "convert it once with safetensors.torch.save_file(state_dict, path)"
        )
    try:
        module.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} cannot be read as safetensors: {error}") from error
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise BadInput(f"{path} does not fit the model: {' '.join(lines)}") from error


def _input_names(module: torch.nn.Module, data: Dataset) -> tuple[str, ...]:
    parameters = inspect.signature(module.forward).parameters.values()
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters):
        raise BadInput("forward() must name its inputs: *args and **kwargs cannot be matched with the data")
    names = tuple(
        parameter.name
        for parameter in parameters
        if parameter.name in data.inputs or parameter.default is inspect.Parameter.empty
    )
    data.select(names)
    extra = sorted(set(data.inputs) - set(names))
    if extra:
        raise BadInput(f"the data holds {extra[0]!r}, which is no parameter of forward(); it takes {', '.join(names)}")
    return names


def _output_names(reference: str, result: Any, wanted: tuple[str, ...]) -> tuple[str, ...]:
    count = len(flatten(result))
    if wanted:
        if len(wanted) != count or len(set(wanted)) != count:
            raise BadInput(f"{reference} has {count} output(s), --outputs names {len(wanted)}: {', '.join(wanted)}")
        return wanted
    if isinstance(result, Mapping):
        return tuple(str(name) for name in result)
    return tuple("output" if position == 0 else f"output_{position}" for position in range(count))


def _digest_of_code(factory: Any) -> str:
    try:
        path = inspect.getsourcefile(factory)
    except TypeError:
        return ""
    return digest(Path(path)) if path and Path(path).is_file() else ""


def _kind(value: Any) -> str:
    return f"an object of type {type(value).__name__}"


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
