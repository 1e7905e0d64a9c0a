"""Checkpoints: weights read without running code, and matched with the names of a module's parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput

if TYPE_CHECKING:
    import torch

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".tar")
USUAL_KEYS = ("state_dict", "model_state_dict", "model", "net", "module", "weights", "params", "ema", "ema_state_dict")
"""The keys under which training scripts store the weights, in the order in which they are tried."""

LISTED = 5
"""The number of names that a message lists."""


def load(module: torch.nn.Module, path: Path) -> tuple[str, ...]:
    """Load the weights of ``path`` into ``module`` and return messages about keys, prefixes and unused entries.

    Every parameter of the module must be in the file. A dictionary around the weights, and one prefix of all names,
    are removed. Raises BadInput.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    wanted = module.state_dict()
    found = {key: _matched(tensors, set(wanted)) for key, tensors in _state_dicts(loaded)}
    if not found:
        raise BadInput(f"{path} does not hold a state_dict: save model.state_dict()")
    key, (prefix, tensors, unused) = min(found.items(), key=lambda row: len(set(wanted) - set(row[1][1])))
    _fill_tied(wanted, tensors)
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise BadInput(f"{path} does not fit the model: {' '.join(lines)}") from error
    messages = [f"the weights are under the key {key!r} of {path.name}"] if key else []
    messages += [f"the prefix {prefix!r} of the names in {path.name} was removed"] if prefix else []
    if unused:
        more = f" and {len(unused) - LISTED} more" if len(unused) > LISTED else ""
        messages.append(f"entries of {path.name} outside the model are unused: {', '.join(unused[:LISTED])}{more}")
    return tuple(messages)


def _state_dicts(loaded: Any) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Yield the dictionaries of tensors in ``loaded`` with their key: the usual keys first, then the whole."""
    import torch

    if not isinstance(loaded, Mapping):
        return
    for key in (*USUAL_KEYS, *(key for key in loaded if key not in USUAL_KEYS)):
        inner = loaded.get(key)
        if isinstance(inner, Mapping):
            for below, tensors in _state_dicts(inner):
                yield ".".join(filter(None, (str(key), below))), tensors
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield "", tensors


def _matched(tensors: Mapping[str, torch.Tensor], wanted: set[str]) -> tuple[str, dict[str, torch.Tensor], list[str]]:
    """Return the most common prefix of the names, the tensors without it, and the names outside it.

    Names that fit as they are need no prefix.
    """
    if wanted <= set(tensors):
        return "", dict(tensors), []
    prefixes = Counter(
        name[: -len(want)] for name in tensors for want in wanted if name == want or name.endswith(f".{want}")
    )
    prefix = prefixes.most_common(1)[0][0] if prefixes else ""
    stripped = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return prefix, stripped, [name for name in tensors if not name.startswith(prefix)]


def _fill_tied(wanted: Mapping[str, torch.Tensor], tensors: dict[str, torch.Tensor]) -> None:
    """Add the names of parameters that share their memory with one in ``tensors``; files store them once."""
    by_memory = {tensor.data_ptr(): name for name, tensor in wanted.items() if name in tensors and tensor.numel()}
    for name, tensor in wanted.items():
        shared = by_memory.get(tensor.data_ptr())
        if name not in tensors and shared is not None and wanted[shared].shape == tensor.shape:
            tensors[name] = tensors[shared]


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} cannot be read as safetensors: {error}") from error
    return tensors


def _read_pickled(path: Path) -> Any:
    """Read a file of torch.save with the reader that only builds tensors and plain containers and runs no code."""
    import torch

    if path.suffix not in PICKLED:
        raise BadInput(f"{path}: weights must be a .safetensors file or one of {', '.join(PICKLED)}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadInput(
            f"{path} is damaged or holds objects besides tensors, which can run code, so it is not opened. Save "
            "the weights with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error
