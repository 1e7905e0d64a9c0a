"""The documentation: links lead to existing pages and headings; commands name existing modules and make targets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bench.__main__
from container.deploy import arguments as deploy_arguments
from container.local import arguments
from container.update import settings as update
from optimize import options
from server.settings import reader

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
MODULE = re.compile(r"python -m ((?:server|optimize|bench|container|examples|tests)[\w.]*)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_name_modules_and_make_targets(page: Path) -> None:
    text = page.read_text("utf-8")
    for module in MODULE.findall(text):
        path = ROOT / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make ([a-z][a-z-]+)", text, re.MULTILINE) + re.findall(r"`make ([a-z][a-z-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    missing = [
        page.name
        for page in (ROOT / "docs").rglob("*.md")
        if page.name != "README.md" and page.parent.name != "decisions" and page.name not in index
    ]
    assert missing == []


PARSERS: dict[str, Callable[[list[str]], Any]] = {
    "-m optimize": options.parse,
    "-m bench": lambda given: bench.__main__.parser().parse_args(given),
    "-m container.local": lambda given: arguments.parser().parse_args(given),
    "-m container.deploy": lambda given: deploy_arguments.parser().parse_args(given),
    "-m container.update": lambda given: update.read(update.parser().parse_args(given)),
    "serve.py": lambda given: reader.read(given, {}),
}
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The Python commands of a page's shell blocks, split into words."""
    text = "".join(BLOCK.findall(page.read_text("utf-8"))).replace("\\\n", " ")
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    return [line for line in lines if line and line[0].endswith("bin/python")]


@pytest.mark.parametrize("name", ["README.md", "docs/local.md", "docs/deploy.md", "docs/peers.md"])
def test_commands_are_valid_command_lines(name: str) -> None:
    found = commands(ROOT / name)
    assert found
    for _, *words in found:
        program = words[0] if words[0] == "serve.py" else " ".join(words[:2])
        end = words.index(">") if ">" in words else len(words)
        PARSERS[program](words[len(program.split()) : end])
