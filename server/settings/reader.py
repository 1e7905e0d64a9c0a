"""The reader: the values of the options, from flags, environment variables and a TOML file.

Sources, strongest first: command-line flag, ``SLIPWAY_*`` variable, ``SAGEMAKER_*`` alias, TOML file, default.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from .. import fatal
from ..errors import BadSetting
from .options import CONFIG, CONFIG_HELP, FIELDS, GROUPS, PREFIX, Settings, flag, is_switch, shown_default, variable


def environment() -> Mapping[str, str]:
    """The environment variables of this process. Other packages get them as an argument."""
    return os.environ


def from_process(argv: Sequence[str] | None = None) -> Settings:
    """The settings of this process. Prints help, or one line on a bad setting, and exits (0 or 2)."""
    try:
        return read(sys.argv[1:] if argv is None else argv, environment())
    except BadSetting as error:
        print(f"slipway: {fatal.line(error)}", file=sys.stderr)  # noqa: T201 - there is no log yet
        raise SystemExit(2) from None


def read(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Merge all sources. Raises BadSetting for an unknown name, naming the nearest, or an impossible value."""
    flags = _flags(argv)
    variables = _variables(environ)
    config = (variables | flags).get(CONFIG)
    layers = [_file(config) if config else {}, _aliases(environ), variables, flags]
    values: dict[str, Any] = {}
    for layer in layers:
        values.update(layer)
    values.pop(CONFIG, None)
    return Settings(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadSetting(f"{message}; see --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="serve.py",
        usage="serve.py [serve] [OPTION ...]\n       serve.py doctor [OPTION ...]",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve a model: SageMaker's /ping and /invocations, the Open Inference Protocol under /v2,\n"
        "Prometheus metrics under /metrics and the API's documentation under /docs, all on one port.",
        epilog="Every option is also an environment variable (--max-queue-ms is SLIPWAY_MAX_QUEUE_MS) and a key of\n"
        "the file that --config names (max_queue_ms = 500). Flags win over variables, variables over the file.\n\n"
        "examples:\n"
        "  python serve.py --model build/digits\n"
        "  python serve.py --model model.onnx --port 9000 --instances 2 --threads 1\n"
        "  SLIPWAY_LOG_LEVEL=debug python serve.py --config slipway.toml\n"
        "  python serve.py doctor --model build/digits",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve"],
        default="serve",
        help="serve is the default; doctor examines the host and the model instead, see doctor --help",
    )
    parser.add_argument(flag(CONFIG), metavar="FILE", help=CONFIG_HELP)
    _add_options(parser)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    """One argument for each option, in groups."""
    groups: dict[str, Any] = {}
    for one in FIELDS.values():
        group = GROUPS[one.name]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        shown = shown_default(one.default)
        text = (one.metadata["text"] + (f" (default: {shown})" if shown != "" else "")).replace("%", "%%")
        if is_switch(one.default):
            groups[group].add_argument(flag(one.name), action=argparse.BooleanOptionalAction, help=text)
        else:
            metavar = "|".join(one.metadata["choices"]) or type(one.default).__name__.upper()
            groups[group].add_argument(flag(one.name), metavar=metavar, help=text)


def _flags(argv: Sequence[str]) -> dict[str, Any]:
    parser = _parser()
    known = [name for action in parser._actions for name in action.option_strings]
    for argument in argv:
        # Checked before parsing: argparse would report the value of a mistyped flag instead of the flag.
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in known:
            raise BadSetting(_nearest("option", name, known))
    given = {name: value for name, value in vars(parser.parse_args(list(argv))).items() if name != "command"}
    return {name: _value(name, value, flag(name)) for name, value in given.items()}


def _variables(environ: Mapping[str, str]) -> dict[str, Any]:
    known = {variable(name): name for name in (*FIELDS, CONFIG)}
    values = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX):
            continue
        if name not in known:
            raise BadSetting(_nearest("environment variable", name, list(known)))
        values[known[name]] = _value(known[name], text, name)
    return values


def _aliases(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for one in FIELDS.values():
        for alias in one.metadata["aliases"]:
            text = environ.get(alias.name)
            if text and one.name not in values:
                with suppress(ValueError, OverflowError, BadSetting):  # explained at start, not fatal
                    value = alias.read(text)
                    if value is not None:
                        values[one.name] = _value(one.name, value, alias.name)
    return values


def unreadable_aliases(environ: Mapping[str, str]) -> list[str]:
    """The platform's variables whose values their options do not take."""
    found = []
    for one in FIELDS.values():
        for alias in one.metadata["aliases"]:
            text = environ.get(alias.name)
            if not text:
                continue
            try:
                value = alias.read(text)
                if value is not None:
                    _value(one.name, value, alias.name)
            except (ValueError, OverflowError, BadSetting):
                found.append(alias.name)
    return found


def _file(path: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(f"cannot read {flag(CONFIG)} {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} is not TOML: {error}") from error
    for name in content:
        if name not in FIELDS:
            raise BadSetting(_nearest(f"key in {path}", name, list(FIELDS)))
    return {name: _value(name, value, f"{name} in {path}") for name, value in content.items()}


def _value(name: str, value: Any, where: str) -> Any:
    """Convert and check a value against the option's default type, its choices and its least value."""
    if name == CONFIG:
        return value
    one = FIELDS[name]
    kind: Callable[[Any], Any] = type(one.default)
    if is_switch(one.default):
        return _truth(value, where)
    if value == one.metadata["zero"] != "":
        return kind(0)
    try:
        converted = _converted(kind, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadSetting(f"{where} must be {_kind(kind)}, got {value!r}") from error
    choices, least = one.metadata["choices"], one.metadata["least"]
    if choices and converted not in choices:
        raise BadSetting(f"{where} must be one of {', '.join(choices)}, got {value!r}")
    if least is not None and not converted >= least:
        raise BadSetting(f"{where} must be at least {least}, got {value!r}")
    if name in ("port", "grpc_port") and converted > 65_535:
        raise BadSetting(f"{where} must be at most 65535, got {value!r}")
    return converted


def _converted(kind: Callable[[Any], Any], value: Any) -> Any:
    """Raises TypeError, ValueError or OverflowError unless nothing is lost, and for what is not finite."""
    if isinstance(value, (bool, list, dict)):
        raise TypeError
    converted = kind(value)
    if kind is not str and not math.isfinite(converted):
        raise OverflowError
    if isinstance(value, float) and kind is int and converted != value:
        raise ValueError
    return converted


def _truth(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise BadSetting(f"{where} must be true or false, got {value!r}")


def _kind(kind: Callable[[Any], Any]) -> str:
    return "a whole number" if kind is int else "a number" if kind is float else "text"


def _nearest(what: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; the nearest is {close[0]}" if close else ""
    return f"unknown {what} {name}{hint}; see --help for all"
