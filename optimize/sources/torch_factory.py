"""Source: a ``module:attribute`` that builds a ``torch.nn.Module``, with weights that are read without running code."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from server.artifact import digest

from ..errors import BadInput
from ..evaluation.dataset import Dataset
from . import SourceModel, SourceSpec, checkpoint
from .torch_module import brief, input_names, kind, reference_model

if TYPE_CHECKING:
    import torch

NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


def load(request: SourceSpec, data: Dataset) -> SourceModel:
    """Build the module, load its weights strictly, and run it on two rows of ``data``.

    The inputs are the parameters of ``forward``, looked up in ``data`` by name; parameters with a default are optional.
    The mapping that the module returns names the outputs, or the user does, or they are ``output``, ``output_1`` ...
    Raises BadInput naming the step that failed.
    """
    factory = resolve(request.reference)
    module, messages = build(request.reference, request.weights, request.arguments)
    digests = {"factory": digest_of_code(factory)}
    if request.weights is not None:
        digests["weights"] = digest(request.weights)
    present = {key: value for key, value in digests.items() if value}
    source = reference_model(request, module, input_names(module, data), data, present)
    return replace(source, messages=messages)


def build(
    reference: str, weights: Path | None, arguments: Mapping[str, Any] = NO_ARGUMENTS
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Build the module in float32 with its weights, on the CPU and in evaluation mode. Return it with messages.

    Raises BadInput.
    """
    import torch

    module = _build(reference, resolve(reference), arguments)
    messages: tuple[str, ...] = ()
    if weights is not None:
        messages = checkpoint.load(module, weights)
    elif any(True for _ in module.parameters()):
        messages = (f"no --weights: the weights are random unless {reference} loads trained ones itself",)
    if any(value.dtype in (torch.float16, torch.bfloat16) for value in module.state_dict().values()):
        messages += ("the weights are 16-bit floats: they are converted to float32, the baseline's precision",)
        module = module.float()
    return module.eval(), messages


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


def _build(reference: str, factory: Any, arguments: Mapping[str, Any]) -> torch.nn.Module:
    import torch

    if isinstance(factory, torch.nn.Module):
        if arguments:
            raise BadInput(f"--argument: {reference} is a module already, and takes no arguments")
        return factory.cpu()
    if not callable(factory):
        raise BadInput(f"{reference!r} is {kind(factory)}, not a function that builds a torch.nn.Module")
    _check_arguments(reference, factory, arguments)
    called = f"{reference}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    try:
        module = factory(**arguments)
    except Exception as error:
        raise BadInput(f"{called} failed with {brief(error)}; --argument NAME=VALUE gives arguments") from error
    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"{called} returned {kind(module)}, not a torch.nn.Module")
    return module.cpu()


def _check_arguments(reference: str, factory: Any, arguments: Mapping[str, Any]) -> None:
    """Raises BadInput if ``factory`` needs arguments that were not given, or does not take one that was."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    missing = [name for name in needed if name not in arguments]
    if missing:
        options = " ".join(f"--argument {name}=VALUE" for name in missing)
        raise BadInput(f"{reference} needs arguments: give {options}")
    known = [parameter.name for parameter in parameters]
    unknown = sorted(set(arguments) - set(known))
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        raise BadInput(f"--argument {unknown[0]}: {reference} takes {', '.join(known) or 'no arguments'}")


def digest_of_code(factory: Any) -> str:
    try:
        path = inspect.getsourcefile(factory)
    except TypeError:
        return ""
    return digest(Path(path)) if path and Path(path).is_file() else ""
