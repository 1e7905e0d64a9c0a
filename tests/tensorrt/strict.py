"""A module with the classes of TensorRT, made from their interface. It refuses what the bindings refuse.

It records calls. What a method does is passed in. A method without a behaviour raises NotImplementedError, after its
arguments were checked.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from .api import Api, Parameter, parameters

Behaviour = Callable[..., Any]
Behaviours = Mapping[tuple[str, str], Behaviour]
"""By class and method or attribute; looked up at the call."""

SEVERITIES = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
OVERRIDDEN = ("ILogger", "IProgressMonitor")
"""Classes whose methods users write."""


@dataclass(frozen=True, slots=True)
class Call:
    """``method`` ends with ``=`` for a set attribute, whose value is the argument ``value``."""

    owner: str
    method: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class Made:
    """The module, and what happened to its objects. ``make`` creates an object of a class that users cannot create."""

    module: ModuleType
    calls: list[Call] = field(default_factory=list)
    classes: dict[str, type] = field(default_factory=dict)
    enums: dict[str, type[enum.Enum]] = field(default_factory=dict)

    def make(self, kind: str, /, **state: Any) -> Any:
        made: Any = self.classes[kind]
        one = made.__new__(made)
        one._state = state
        return one


def build(api: Api, behaviours: Behaviours) -> Made:
    """The classes and enums of an interface. A behaviour is called with the object and the arguments by name."""
    made = Made(ModuleType(f"fake_tensorrt_{api.version.replace('.', '_')}"))
    made.enums = {name: _enum(name, members) for name, members in api.enums.items()}
    severity = made.enums["ILogger.Severity"] = _enum("Severity", SEVERITIES)
    for name in sorted(api.methods, key=lambda one: len(api.bases[one])):
        made.classes[name] = _class(name, api, made, behaviours)
    for logger in ("ILogger", "Logger"):
        vars_ = {"Severity": severity, **severity.__members__}
        for key, value in vars_.items():
            setattr(made.classes[logger], key, value)
    vars(made.module).update({**made.classes, **{k: v for k, v in made.enums.items() if "." not in k}})
    made.module.__version__ = api.version  # type: ignore[attr-defined]
    return made


class _Member(enum.Enum):
    """Converts to int, and is not equal to one, as pybind11's enums."""

    def __int__(self) -> int:
        return int(self.value)


def _enum(name: str, members: Mapping[str, int]) -> type[enum.Enum]:
    made: Any = _Member
    result: type[enum.Enum] = made(name, dict(members))
    return result


def _class(name: str, api: Api, made: Made, behaviours: Behaviours) -> type:
    bases = tuple(made.classes[base] for base in api.bases[name]) or (
        (bytearray,) if name == "IHostMemory" else (object,)
    )
    members: dict[str, Any] = {"__slots__": () if bases[0] in made.classes.values() else ("_state",)}
    for method, overloads in api.methods[name].items():
        members[method] = _method(made, name, method, overloads, behaviours)
    if "__init__" not in api.methods[name]:
        members["__init__"] = _no_constructor(name)
    for attribute, (kind, settable) in api.properties[name].items():
        members[attribute] = _property(made, name, attribute, kind, settable, behaviours)
    return type(name, bases, members)


def _no_constructor(name: str) -> Behaviour:
    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise TypeError(f"{name}: No constructor defined!")

    return refuse


def _method(made: Made, owner: str, name: str, overloads: list[str], behaviours: Behaviours) -> Behaviour:
    choices = [parameters(one)[0] for one in overloads]

    def call(self: Any, *given: Any, **named: Any) -> Any:
        for choice in choices:
            arguments = _bound(made, choice, given, named)
            if arguments is not None:
                break
        else:
            shown = "\n".join(f"    {number}. {one}" for number, one in enumerate(overloads, 1))
            raise TypeError(
                f"{name}(): incompatible function arguments. Supported:\n{shown}\nInvoked with: {given} {named}"
            )
        if name == "__init__":
            self._state = dict(arguments)
        made.calls.append(Call(owner, name, arguments))
        behaviour = behaviours.get((owner, name))
        if behaviour is not None:
            return behaviour(self, **arguments)
        if name == "__init__":
            return None
        raise NotImplementedError(f"the fake of TensorRT does not act out {owner}.{name}")

    return call


def _property(made: Made, owner: str, name: str, kind: str, settable: bool, behaviours: Behaviours) -> property:
    def read(self: Any) -> Any:
        behaviour = behaviours.get((owner, name))
        if behaviour is not None:
            return behaviour(self)
        if name not in self._state:
            raise NotImplementedError(f"the fake of TensorRT does not act out {owner}.{name}")
        return self._state[name]

    def write(self: Any, value: Any) -> None:
        if not _accepts(made, kind, value) and not (value is None and kind in made.classes):
            raise TypeError(f"(): incompatible function arguments: {owner}.{name} is of type {kind}, not {type(value)}")
        made.calls.append(Call(owner, f"{name}=", {"value": value}))
        self._state[name] = value

    return property(read, write if settable else None)


def _bound(made: Made, choice: list[Parameter], given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments by name, defaults included; None if they do not fit."""
    if len(given) > len(choice):
        return None
    arguments = {one.name: value for one, value in zip(choice, given, strict=False)}
    if arguments.keys() & named.keys() or named.keys() - {one.name for one in choice}:
        return None
    arguments |= named
    for one in choice:
        if one.name not in arguments:
            if one.default is None:
                return None
            arguments[one.name] = _default(made, one)
        elif not _accepts(made, one.kind, arguments[one.name]) and not (
            one.default == "None" and arguments[one.name] is None
        ):
            return None
    return arguments


def _default(made: Made, one: Parameter) -> Any:
    text = one.default or ""
    if text == "None":
        return None
    if text.startswith("<"):
        name, _, member = text[1:].partition(":")[0].partition(".")
        kind = "ILogger.Severity" if name == "Severity" else name
        return made.enums[kind][member]
    return int(text)


def _accepts(made: Made, kind: str, value: Any) -> bool:
    name = kind.rpartition("::")[2]
    if name in made.enums:
        return isinstance(value, made.enums[name])
    if name == "Dims":
        return isinstance(value, (made.classes["Dims"], tuple, list))
    if name in made.classes:
        created = isinstance(value, made.classes[name])
        if created and not hasattr(value, "_state"):
            raise TypeError(f"{name}.__init__() must be called when overriding __init__")
        return created
    if kind in ("typing.SupportsInt", "int"):
        return hasattr(value, "__int__") and not isinstance(value, (str, enum.Enum))
    if kind == "typing_extensions.Buffer":
        return isinstance(value, (bytes, bytearray, memoryview, np.ndarray))
    if kind.startswith("collections.abc.Sequence"):
        return isinstance(value, (list, tuple))
    plain: dict[str, tuple[type, ...]] = {
        "str": (str, bytes),
        "bool": (bool, np.bool_),
        "tuple": (tuple,),
        "list": (list,),
    }
    return isinstance(value, plain.get(kind, ()))
