"""A script's ``requirements.txt``: what of it is missing; installed only when the operator says so."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from ..errors import BrokenArtifact

log = logging.getLogger("slipway.handlers")

FILE = "requirements.txt"
LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:==\s*(?P<version>[^\s;,#*]+)\s*(?:[;#].*)?$)?"
)
INSTALL_S = 600.0


def missing(text: str) -> list[str]:
    """The requirements that are not installed, or not in the version that they are pinned to, with what is there.

    Ranges, markers, URLs and options are not judged: a name that is installed is taken to be right.
    """
    lacking = []
    for line in text.splitlines():
        found = LINE.match(line.strip())
        if found is None:
            continue
        name, wanted = found["name"], found["version"]
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            lacking.append(f"{name}=={wanted}" if wanted else name)
            continue
        if wanted and have != wanted:
            lacking.append(f"{name}=={wanted} ({have} is installed)")
    return lacking


def provide(code: Path, install: bool) -> str:
    """Report what is missing in the log; with ``install``, fetch it with pip into a folder of its own.

    Returns that folder, or nothing. It belongs behind everything else on the path: a script's wish must not change the
    server's own libraries. Raises BrokenArtifact when pip fails.
    """
    path = code / FILE
    if not path.is_file():
        return ""
    lacking = missing(path.read_text(encoding="utf-8", errors="replace"))
    if not lacking:
        log.info("%s: everything is installed", FILE)
    elif not install:
        log.warning(
            "%s asks for what is not installed: %s; install it when the image is built, or pass --script-install",
            FILE,
            ", ".join(lacking),
        )
    else:
        return _install(path)
    return ""


def _install(path: Path) -> str:
    target = tempfile.mkdtemp(prefix="slipway-requirements-")
    log.info("installing %s into %s", FILE, target)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", target, "-r", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokenArtifact(f"{FILE} could not be installed: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise BrokenArtifact(f"{FILE} could not be installed: {last[:300]}")
    return target
