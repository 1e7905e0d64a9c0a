"""A script's ``requirements.txt``: missing packages are reported, and installed only with ``--script-install``."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import BrokenArtifact
from ..system.installed import canonical, wheel

log = logging.getLogger("slipway.scripts")

FILE = "requirements.txt"
LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:==\s*(?P<version>[^\s;,#*]+)\s*(?:[;#].*)?$)?"
)
INSTALL_S = 600.0


FILES = re.compile(r"(?P<option>-r|-c|--requirement|--constraint)(?:\s+|=)(?P<path>\S+)")
"""A line that names a further file, relative to the folder of its own file."""


def missing_requirements(text: str) -> list[str]:
    """The requirements that are not installed, or not in their pinned version.

    A library counts as installed whichever wheel brought it: ``onnxruntime-gpu`` is ``onnxruntime``. Ranges, markers,
    URLs and options are not checked: any installed version satisfies them.
    """
    lacking = []
    for line in text.splitlines():
        found = LINE.match(line.strip())
        if found is None:
            continue
        name, wanted = found["name"], found["version"]
        have = wheel(name)
        if have is None:
            lacking.append(f"{name}=={wanted}" if wanted else name)
        elif wanted and have[1] != wanted:
            lacking.append(f"{name}=={wanted} ({have[1]} is installed)")
    return lacking


def installable(text: str, folder: Path) -> str:
    """The requirements without those that another installed wheel provides: two wheels of one module do not go beside
    each other, and the server's own is imported. The paths of further files of ``folder`` become absolute."""
    kept = []
    for line in text.replace("\\\n", " ").splitlines():  # a requirement and its hashes are one line
        stripped = line.strip()
        further, found = FILES.match(stripped), LINE.match(stripped)
        have = wheel(found["name"]) if found is not None else None
        if further is not None and "://" not in further["path"]:
            kept.append(f"{further['option']} {folder / further['path']}")
        elif found is None or have is None or have[0] == canonical(found["name"]):
            kept.append(line)
    return "\n".join(kept) + "\n"


def check_requirements(code: Path, install: bool, name: str = FILE) -> str:
    """Log the missing requirements; with ``install``, install them with pip into a new folder.

    Returns that folder, or an empty string. The folder belongs at the end of ``sys.path``: a script's requirements must
    not replace the server's own libraries. Raises BrokenArtifact if pip fails.
    """
    path = code / name
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    lacking = missing_requirements(text)
    if not lacking:
        log.info("requirements are installed file=%s", FILE)
    elif not install:
        log.warning(
            "requirements are missing file=%s missing=%s; install them in the image, or pass --script-install",
            *(FILE, ",".join(lacking)),
        )
    else:
        return _install(installable(text, code.absolute()))
    return ""


def _install(text: str) -> str:
    target = tempfile.mkdtemp(prefix="slipway-requirements-")
    log.info("installing requirements file=%s target=%s", FILE, target)
    try:
        with tempfile.NamedTemporaryFile("w", suffix=f"-{FILE}", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", target, "-r", file.name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokenArtifact(f"{FILE} could not be installed: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise BrokenArtifact(f"{FILE} could not be installed: {last[:300]}")
    return target
