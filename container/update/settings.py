"""The settings of the update loop: flags, and the same keys in a TOML file, which flags override."""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import UpdateError

METRICS = ("accuracy", "mae", "rmse", "agreement")
ENGINES = ("local", "sagemaker")


def _setting(default: Any, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"text": text, **more})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values that a loop runs with."""

    watch: str = _setting(
        "",
        "folder in which newly trained models appear, each a file or a folder; or registry:GROUP, the newest approved "
        "version of a model package group of SageMaker",
    )
    name: str = _setting("", "the model's name on the server, or the endpoint's")
    work: str = _setting("update", "folder of the record and of the artifacts")
    engine: str = _setting("local", "what serves", choices=ENGINES)
    server: str = _setting("http://127.0.0.1:8080", "address of the server, whose admin routes are open (local)")
    publish: str = _setting("", "the server's model folder: a promoted version is copied to it as NAME/VERSION (local)")
    deploy: tuple[str, ...] = _setting((), "arguments for container.deploy (sagemaker)")
    serving: str = _setting("", "artifact of the version that answers now; empty: the server's, or the last promoted")
    optimize: tuple[str, ...] = _setting((), "arguments for optimize; empty: models are served as they are")
    held_out: str = _setting("", "rows for the gate: .npz with an array for each input, and labels")
    metric: str = _setting("accuracy", "what the gate compares", choices=METRICS)
    max_drop: float = _setting(0.01, "largest drop of the metric that the gate allows, in its own unit", least=0)
    least_score: float = _setting(-math.inf, "score that a model needs at least, in the metric's unit")
    shadow_requests: int = _setting(200, "requests that the shadow must answer", least=0)
    shadow_failures: float = _setting(0.0, "largest share of failed shadow requests", least=0)
    canary: tuple[float, ...] = _setting((5.0, 25.0), "percentages of the canary, one after the other")
    canary_answers: int = _setting(100, "answers of the canary at each percentage", least=1)
    error_rate: float = _setting(0.01, "faults of the canary above the stable version's, a share", least=0)
    latency: float = _setting(2.0, "p95 of the canary, a multiple of the stable version's; 0: no rule", least=0)
    step_s: float = _setting(3_600.0, "seconds that shadow, or one percentage of the canary, may take", least=0.001)
    probation_s: float = _setting(300.0, "longest wait for the server's own probation after the promotion", least=0)
    poll_s: float = _setting(5.0, "seconds between two looks", least=0)

    def artifact(self, version: str) -> Path:
        """The place of a version's artifact."""
        return Path(self.work) / "artifacts" / version


FIELDS = {one.name: one for one in dataclasses.fields(Settings)}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m container.update",
        allow_abbrev=False,
        description="Watches for newly trained models. Each is optimized, gated on held-out rows, loaded beside the "
        "version that answers, shadowed, given a growing part of the requests, and promoted or rolled back.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "watch until interrupted"),
        ("once", "update to the newest model, if it is not known yet, and end"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("--file", type=Path, metavar="FILE", help="TOML file with any of these settings")
        for one in FIELDS.values():
            flag = "--" + one.name.replace("_", "-")
            text_of_one = f"{one.metadata['text']} (default: {_shown(one.default)})".replace("%", "%%")
            command.add_argument(flag, choices=one.metadata.get("choices"), default=None, help=text_of_one)
    replay = commands.add_parser("replay", help="print the steps of a record, and judge its evidence again")
    replay.add_argument("record", type=Path, help="record.jsonl, or the folder that has it")
    return top


def read(options: argparse.Namespace) -> Settings:
    """The settings of a command line. Raises UpdateError."""
    values: dict[str, Any] = {}
    if options.file is not None:
        try:
            content = tomllib.loads(options.file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UpdateError(f"cannot read --file {options.file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UpdateError(f"{options.file} is not TOML: {error}") from error
        for name, value in content.items():
            if name not in FIELDS:
                raise UpdateError(f"{options.file}: unknown setting {name}; --help lists all")
            values[name] = _value(name, value)
    for name in FIELDS:
        given = getattr(options, name)
        if given is not None:
            values[name] = _value(name, given)
    settings = Settings(**values)
    for name in ("watch", "name"):
        if not getattr(settings, name):
            raise UpdateError(f"--{name} is missing")
    if settings.canary != tuple(sorted(settings.canary)) or any(not 0 < one <= 100 for one in settings.canary):
        raise UpdateError("--canary must be growing percentages up to 100, such as 5,25")
    return settings


def _value(name: str, value: Any) -> Any:
    """A value in the type of its setting. Raises UpdateError."""
    one = FIELDS[name]
    default = one.default
    try:
        if isinstance(default, tuple):
            parts = value
            if isinstance(value, str):
                parts = value.split(",") if name == "canary" else shlex.split(value)
            kind = float if name == "canary" else str
            return tuple(kind(part) for part in parts if part != "")
        kind_of: Callable[[Any], Any] = type(default)
        converted = kind_of(value)
        choices, least = one.metadata.get("choices"), one.metadata.get("least")
        if (choices and converted not in choices) or (least is not None and not converted >= least):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise UpdateError(f"{name} cannot be {value!r}; see --help") from error
    return converted


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in default) or "none"
    return str(default) if default not in ("", -math.inf) else "none"
