"""The interface of TensorRT's Python bindings as data: signatures, attributes and enum values of what Slipway uses.

The files beside this one hold it for 10.16, 11.4 and TensorRT-RTX 1.7. They were read from the bindings, and
``tests/gpu/fake/test_tensorrt_bindings.py`` reads them again:

    .venv-gpu-fake/bin/python -m tests.tensorrt.api tensorrt_rtx_bindings > tests/tensorrt/rtx-1.7.json
    .venv-gpu-fake/bin/python -m tests.tensorrt.api tensorrt_bindings .venv-gpu-fake/fake-gpu/tensorrt-11 > ...
"""

from __future__ import annotations

import ctypes
import importlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

VERSIONS = ("10.16", "11.4", "rtx-1.7")
CLASSES = """Builder Dims EngineInspector IBuilderConfig ICudaEngine IExecutionContext IHostMemory ILayer ILogger
INetworkDefinition IOptimizationProfile IProgressMonitor ITensor ITimingCache Logger OnnxParser OnnxParserRefitter
ParserError Refitter Runtime""".split()  # noqa: SIM905 - a list would take twenty lines
ENUMS = """BuilderFlag ComputeCapability DataType ErrorCode ExecutionContextAllocationStrategy
HardwareCompatibilityLevel LayerInformationFormat LayerType MemoryPoolType NetworkDefinitionCreationFlag
OnnxParserFlag ProfilingVerbosity TensorFormat TensorIOMode TensorLocation""".split()  # noqa: SIM905
SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)\((.*)\) -> (.*)$")
PACKAGE = re.compile(r"\b(?:tensorrt_\w+\.)+tensorrt\w*\.")


@dataclass(frozen=True, slots=True)
class Parameter:
    """``kind``: the type's name in the bindings. ``default``: its text, None for a required parameter."""

    name: str
    kind: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Api:
    """``methods`` by class and name: one signature per overload. ``properties`` by class and name: the type and whether
    it can be set. ``enums`` by enum and member. A class is in ``bases`` if it derives from another one of them."""

    version: str
    methods: dict[str, dict[str, list[str]]]
    properties: dict[str, dict[str, tuple[str, bool]]]
    enums: dict[str, dict[str, int]]
    bases: dict[str, list[str]]


def load(version: str) -> Api:
    """The interface of one of ``VERSIONS``."""
    stored = json.loads((Path(__file__).parent / f"{version}.json").read_text("utf-8"))
    stored["properties"] = {name: {k: tuple(v) for k, v in one.items()} for name, one in stored["properties"].items()}
    return Api(**stored)


def parameters(signature: str) -> tuple[list[Parameter], str]:
    """The parameters of a signature without ``self``, and its result type."""
    found = SIGNATURE.match(signature)
    assert found, signature
    texts, depth = [""], 0
    for sign in found[2]:
        depth += (sign in "[<(") - (sign in "]>)")
        if sign == "," and depth == 0:
            texts.append("")
        else:
            texts[-1] += sign
    result = []
    for text in texts[1:]:
        declared, _, default = text.partition(" = ")
        name, _, kind = declared.strip().partition(": ")
        result.append(Parameter(name, kind, default or None))
    return result, found[3]


def read(module: ModuleType) -> Api:
    """The interface of imported bindings, from the texts that pybind11 generates."""
    classes = {name: vars(module)[name] for name in CLASSES}
    return Api(
        version=module.__version__,
        methods={name: _methods(one) for name, one in classes.items()},
        properties={name: _properties(one) for name, one in classes.items()},
        # ComputeCapability is of TensorRT-RTX alone.
        enums={
            name: {key: int(value) for key, value in vars(module)[name].__members__.items()}
            for name in ENUMS
            if name in vars(module)
        },
        bases={
            name: [base.__name__ for base in one.__mro__[1:] if base.__name__ in CLASSES]
            for name, one in classes.items()
        },
    )


def _signatures(doc: str | None) -> list[str]:
    lines = [PACKAGE.sub("", line.strip()) for line in (doc or "").splitlines()]
    lines = [re.sub(r"^\d+\. ", "", line) for line in lines if SIGNATURE.match(line)]
    return [line for line in lines if "(*args" not in line]


def _methods(one: type) -> dict[str, list[str]]:
    found = {}
    for name, value in vars(one).items():
        public = not name.startswith("_") or name in ("__init__", "__len__", "__getitem__")
        if one.__name__ == "INetworkDefinition" and name.startswith("add_"):
            continue  # networks come from the parser
        if public and not isinstance(value, (property, type)) and callable(getattr(one, name)):
            signatures = _signatures(getattr(one, name).__doc__)
            if signatures:
                found[name] = signatures
    return dict(sorted(found.items()))


def _properties(one: type) -> dict[str, tuple[str, bool]]:
    found: dict[str, tuple[str, bool]] = {}
    for name, value in vars(one).items():
        if isinstance(value, property):
            text = PACKAGE.sub("", (value.fget.__doc__ or "").strip().splitlines()[0]) if value.fget else ""
            found[name] = (text.rpartition(" -> ")[2], value.fset is not None)
    return dict(sorted(found.items()))


def as_json(api: Api) -> str:
    stored: dict[str, Any] = {
        name: getattr(api, name) for name in ("version", "methods", "properties", "enums", "bases")
    }
    return json.dumps(stored, indent=1, sort_keys=True) + "\n"


def main(module: str, folder: str | None = None) -> None:
    """Write the interface of a module to stdout. ``folder`` holds the module, and libraries that it is linked with."""
    if folder is not None:
        sys.path.insert(0, folder)
        for library in sorted(Path(folder).glob("lib*.so.*")):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    sys.stdout.write(as_json(read(importlib.import_module(module))))


if __name__ == "__main__":
    main(*sys.argv[1:])
