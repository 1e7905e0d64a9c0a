"""A rehearsal: a temporary folder, the commands that run in it, and a stand-in for an AWS account. Nothing of it stays.

``python -m examples.sagemaker.rehearsal FOLDER`` is its second process. It serves the stand-in (moto), prints its
address, and waits for the end of its standard input. Then it stops the endpoints of this machine and removes the
folder. The input ends with the process that began the rehearsal, however that process ends.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"
END_WITHIN_S = 60.0
STATE, TEMPORARY = "state", "tmp"
"""Folders of the local engine, and of what libraries leave in the temporary folder, below that of the rehearsal."""


class CommandFailed(Exception):
    """A command ended with another exit code than expected; its output is printed above."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """``folder``: where commands run. ``url``: the stand-in's address."""

    folder: Path
    url: str
    _companion: subprocess.Popen[str]

    @classmethod
    def begin(cls) -> Rehearsal:
        """Make the folder and start the second process. Raises CommandFailed when it does not start."""
        folder = Path(tempfile.mkdtemp(prefix="slipway-"))
        (folder / TEMPORARY).mkdir()
        companion = subprocess.Popen(
            [sys.executable, "-m", "examples.sagemaker.rehearsal", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupted cell interrupts the process group of its kernel
        )
        assert companion.stdout is not None
        url = companion.stdout.readline().strip()
        if not url:
            raise CommandFailed(f"the stand-in ended with {companion.wait()}: its reason is on standard error")
        return cls(folder, url, companion)

    def run(self, command: str, ends_with: tuple[int, ...] = (0,), last_lines: int | None = None) -> str:
        """Run ``python -m COMMAND`` in the folder, and print and return its output.

        ``last_lines``: how many of the last lines are printed, once it has ended; None: all, as they come. Raises
        CommandFailed for an exit code that is not in ``ends_with``.
        """
        words = shlex.split(command)
        print(f"$ python -m {shlex.join(words)}", flush=True)
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        lines = []
        with process:
            try:
                for line in process.stdout:
                    lines.append(line)
                    if last_lines is None:
                        print(line, end="", flush=True)
            except BaseException:
                process.terminate()
                raise
        failed = process.returncode not in ends_with
        if last_lines is not None:
            print("".join(lines if failed else lines[-last_lines:]), end="")
        if failed:
            raise CommandFailed(f"{words[0]} ended with {process.returncode}")
        return "".join(lines)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead every AWS client to the stand-in, with the keys of nobody, and no file of the user."""
        # A kernel asks for colours, which turn progress lines into a line for each step.
        colours = ("FORCE_COLOR", "CLICOLOR_FORCE")
        others = {
            name: value for name, value in os.environ.items() if not name.startswith("AWS_") and name not in colours
        }
        return {
            **others,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.folder / TEMPORARY),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, url: str | None = None) -> Any:
        """A boto3 client of the stand-in, or of another address on this machine."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=url or self.url,
            region_name=REGION,
            aws_access_key_id="none",
            aws_secret_access_key="none",  # noqa: S106
        )

    def end(self) -> None:
        """Stop and remove everything. Raises CommandFailed when something cannot be removed."""
        self._companion.communicate(timeout=END_WITHIN_S)  # closes its standard input
        if self._companion.returncode:
            raise CommandFailed(f"the rehearsal was not removed: look at {self.folder}")


def main(folder: Path) -> None:
    """Serve the stand-in until the end of the standard input, then remove what the rehearsal made."""
    from moto.server import ThreadedMotoServer

    from container.deploy.__main__ import main as deploy

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
        sys.stdin.read()
    finally:
        server.stop()
        for deployment in sorted((folder / STATE / "deployments").glob("*")):
            deploy(["down", deployment.name, "--engine", "local", "--state", str(folder / STATE)], say=lambda _: None)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
