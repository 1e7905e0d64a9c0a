"""A script's ``requirements.txt``: missing packages are reported, and installed only with ``--script-install``."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from ..errors import BrokenArtifact

log = logging.getLogger("slipway.scripts")

FILE = "requirements.txt"
LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:==\s*(?P<version>[^\s;,#*]+)\s*(?:[;#].*)?$)?"
)
INSTALL_S = 600.0


def missing_requirements(text: str) -> list[str]:
    """The requirements that are not installed, or not in their pinned version.

    Ranges, markers, URLs and options are not checked: any installed version satisfies them.
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


def check_requirements(code: Path, install: bool) -> str:
    """Log the missing requirements; with ``install``, install them with pip into a new folder.

    Returns that folder, or an empty string. The folder belongs at the end of ``sys.path``: a script's requirements must
    not replace the server's own libraries. Raises BrokenArtifact if pip fails.
    """
    path = code / FILE
    if not path.is_file():
        return ""
    lacking = missing_requirements(path.read_text(encoding="utf-8", errors="replace"))
    if not lacking:
        log.info("requirements are installed file=%s", FILE)
    elif not install:
        log.warning(
            "requirements are missing file=%s missing=%s; install them in the image, or pass --script-install",
            *(FILE, ",".join(lacking)),
        )
    else:
        return _install(path)
    return ""


def _install(path: Path) -> str:
    target = tempfile.mkdtemp(prefix="slipway-requirements-")
    log.info("installing requirements file=%s target=%s", FILE, target)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", target, "-r", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokenArtifact(f"{FILE} could not be installed: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise BrokenArtifact(f"{FILE} could not be installed: {last[:300]}")
    return target
