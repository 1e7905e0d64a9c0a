"""The page of settings: ``docs/settings.md``, written from the options by ``make docs``."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from .options import FIELDS, GROUPS, flag, shown_default, variable

HEAD = """# Settings

Written by `make docs` from `server/settings/options.py`. Strongest first: flag, `SLIPWAY_*` variable,
`SAGEMAKER_*` variable, TOML file (`--config`), default.
"""


def as_markdown() -> str:
    """The settings as a page of Markdown: one section for each group, one row for each option."""
    groups: dict[str, list[str]] = {}
    for one in FIELDS.values():
        groups.setdefault(GROUPS[one.name], []).append(_row(one))
    sections = [
        "\n".join(["", f"## {group}", "", "| flag and variable | default | meaning |", "|---|---|---|", *rows, ""])
        for group, rows in groups.items()
    ]
    return HEAD + "".join(sections)


def _row(one: dataclasses.Field[Any]) -> str:
    also = "".join(f", also `{alias.name}`" for alias in one.metadata["aliases"])
    choices = "".join(f" `{choice}`" for choice in one.metadata["choices"])
    text = one.metadata["text"] + (f":{choices}" if choices else "")
    default = shown_default(one.default)
    shown = f"`{default}`" if default != "" else "none"
    return f"| `{flag(one.name)}` `{variable(one.name)}`{also} | {shown} | {text} |"


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
