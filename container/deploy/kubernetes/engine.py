"""The commands of the Kubernetes engine: ``plan`` prints the objects, or writes them as files; kubectl applies them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..description import Description
from ..documents import yaml_of
from ..engines import Command
from ..errors import InvalidDescription
from ..order import Order
from . import kserve, objects

USED = (
    *("artifact", "engine", "name", "image", "storage", "instance_count", "environment", "tags", "startup_timeout"),
    *("component_cpus", "component_memory", "component_accelerators"),
    *("min_instances", "max_instances", "scaling_target", "scale_out_cooldown", "scale_in_cooldown", "bench_plan"),
)
"""The settings that this engine reads."""
KSERVE = "kserve"


def plan(order: Order) -> None:
    """Print the objects as YAML or JSON; with ``--out`` write a file for each, KServe's in a folder of their own."""
    description = order.description
    if order.effect != "up":
        raise InvalidDescription(f"the engine kubernetes has no {order.effect}: leave out --for")
    objects.check(description)
    plain = objects.files(description, order.facts)
    needed = {name: one for name, one in plain.items() if name in objects.BOTH}
    for_kserve = {**needed, **kserve.files(description, order.facts)}
    if order.out is not None:
        written = [*_written(order.out, plain), *_written(order.out / KSERVE, for_kserve)]
        if not order.json:
            for path in written:
                order.say(f"wrote {path}")
            order.say(f"apply one of both: kubectl apply -f {order.out}, or kubectl apply -f {order.out / KSERVE}")
            return
    order.say(_json(description, plain, for_kserve) if order.json else "\n".join(_text(description, plain)))


def _json(description: Description, plain: Mapping[str, Any], for_kserve: Mapping[str, Any]) -> str:
    calls = [{"service": "kubernetes", "operation": "Apply", "parameters": one} for one in plain.values()]
    document = {
        "engine": description.engine,
        "name": description.name,
        "existing": "unknown: the cluster is not asked; kubectl diff shows what would change",
        "settings": {
            name: {"value": value, "source": description.source(name)} for name, value in _settings(description)
        },
        "calls": calls,
        KSERVE: list(for_kserve.values()),
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _settings(description: Description) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in description.shown().items() if name in USED)


def _text(description: Description, plain: Mapping[str, Any]) -> Iterator[str]:
    """One YAML stream for ``kubectl apply -f -``, whose settings are comments."""
    yield f"# {description.name} on {description.engine}; --out DIR writes files, and those of KServe"
    for name, value in _settings(description):
        shown = " ".join(str(value).split())
        yield f"#   {name:<24} {shown:<44} {description.source(name)}"
    for one in plain.values():
        yield "---"
        yield yaml_of(one).rstrip()


def _written(folder: Path, documents: Mapping[str, Any]) -> Iterator[Path]:
    """Writes the files. Raises InvalidDescription where the folder cannot be written."""
    for name, document in documents.items():
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml_of(document), encoding="utf-8")
        except OSError as error:
            raise InvalidDescription(f"--out {folder}: {error.strerror}") from error
        yield path


COMMANDS: Mapping[str, Command] = {"plan": plan}
