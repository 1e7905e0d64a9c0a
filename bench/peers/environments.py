"""Environments: one virtual environment for each peer, in a cache folder, installed on request."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .peer import Peer

DEFAULT_CACHE = Path.home() / ".cache" / "slipway" / "peers"
STAMP = "slipway-lock.sha256"
INSTALL_WITHIN_S = 1800.0
ERROR_CHARACTERS = 400
"""The length of the end of pip's error output that a message quotes."""


class Missing(Exception):
    """A peer cannot be used on this machine; the message says why and what to do."""


def python_of(peer: Peer, cache: Path, install: bool, say: Callable[[str], None]) -> Path:
    """The interpreter of the peer's environment. ``install``: create the environment if it is missing or out of date.

    Raises Missing if a program that the peer needs is not installed, if there is no current environment, and if pip
    fails.
    """
    for program in peer.needs:
        if shutil.which(program) is None:
            raise Missing(f"it needs {program}, which is not installed: install it")
    if peer.lock is None:
        return Path(sys.executable)
    folder = cache / peer.name
    python, stamp = folder / "bin" / "python", folder / STAMP
    wanted = digest(peer.lock)
    if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted and python.is_file():
        return python
    if not install:
        state = "was installed from other requirements" if folder.exists() else "is not installed"
        raise Missing(f"its environment {state}: run peers with --install")
    say(f"installing {peer.title} into {folder}")
    _make(folder, peer.lock)
    stamp.write_text(wanted, encoding="ascii")
    return python


def digest(lock: Path) -> str:
    """The SHA-256 of the requirements and the interpreter's version, hexadecimal. It identifies an environment."""
    version = f"python {sys.version_info[0]}.{sys.version_info[1]}\n"
    return hashlib.sha256(version.encode() + lock.read_bytes()).hexdigest()


def version(peer: Peer) -> str | None:
    """The pinned version of the peer's package; None for a peer without a lock."""
    if peer.lock is None or peer.package is None:
        return None
    pins = (line.partition("==") for line in peer.lock.read_text(encoding="utf-8").splitlines())
    return next((pin for name, _, pin in pins if name.lower() == peer.package.lower()), None)


def _make(folder: Path, lock: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    # Wheels only: nothing is compiled, and no code of a package runs during the installation.
    _run([*pip, "--quiet", "--only-binary", ":all:", "--no-deps", "-r", str(lock)])


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"pip could not make its environment: {error}") from error
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or [result.stderr.strip()]
        raise Missing(f"pip could not make its environment: {' '.join(errors)[-ERROR_CHARACTERS:]}")
