"""A worker process of a script, seen from the server: start, run calls, kill, wait for its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from .call import Call, ScriptResponse
from .channel import Channel, ChannelBroken, decode_error, decode_responses, encode_calls
from .worker_output import WorkerOutput

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = """
import os, sys
os.environ.setdefault("OMP_NUM_THREADS", sys.argv[3])
if sys.argv[4]:
    os.environ["CUDA_VISIBLE_DEVICES"] = sys.argv[4]
sys.path.insert(0, sys.argv[2])
from server.scripts.worker_main import main
sys.exit(main(int(sys.argv[1])))
"""
"""The child's program. Numeric libraries read their number of threads from the environment, once, when imported, and
CUDA the GPUs that it shows."""

END_S = 2.0
"""Time that a worker has to end by itself."""


class WorkerProcess:
    """One process and the server's end of its channel."""

    def __init__(self, threads: int, gpus: str = "") -> None:
        """Start the process. ``gpus``: names of the GPUs that it sees, with commas between; empty: all that are
        visible. Raises OSError if the system cannot start one more."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-c", BOOTSTRAP, str(theirs.fileno()), str(ROOT), str(threads), gpus]
            try:
                self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                )
            except BaseException:
                ours.close()
                raise
        assert self.process.stdout is not None
        self._output = WorkerOutput(cast(BinaryIO, self.process.stdout))
        self.channel = Channel(ours)
        self._over = False
        self.ended = threading.Event()
        self.ended_sessions: list[str] = []  # sent to the worker when no run uses the channel

    def run(self, calls: Sequence[Call], timeout_s: float) -> list[ScriptResponse]:
        """Run the calls. Raises TimeoutError, ChannelBroken, or the error that all calls share."""
        self.channel.send(*encode_calls(calls))
        responses = decode_responses(self.channel.receive(timeout_s))
        if len(responses) != len(calls):
            raise ChannelBroken("the worker returned a wrong number of responses")
        return responses

    def next_chunk(self, index: int, timeout_s: float) -> bytes | None:
        """The next chunk of a response of the last run, None at its end.

        Raises TimeoutError, ChannelBroken, or the script's error.
        """
        self.channel.send({"next": index})
        said, blobs = self.channel.receive(timeout_s)
        if "raised" in said:
            raise decode_error(said["raised"])
        return blobs[0] if said["more"] else None

    def send_ended_sessions(self) -> None:
        """Tell the worker which sessions have ended. No run may use the channel meanwhile."""
        if self.ended_sessions:
            with contextlib.suppress(ChannelBroken):  # a worker that has ended holds no state
                self.channel.send({"forget": self.ended_sessions})
            self.ended_sessions = []

    def kill(self) -> None:
        """Kill the process and all processes that it has started."""
        if not self._over:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end of the process, kill the rest of its group, and return the exit code."""
        # Not reaped yet: until then the kernel gives the process id to no other process.
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        self.kill()
        self._over = True
        code = self.process.wait()
        self._output.finish(END_S)
        self.ended.set()
        return code

    def reason(self) -> str:
        """How the process ended, for an error message."""
        self.ended.wait(END_S)
        code = self.process.returncode
        if code is None:
            return "it does not respond"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    @property
    def bytes(self) -> int:
        """Resident memory in bytes, shared libraries included; 0 after its end."""
        try:
            text = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii")
            return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0
