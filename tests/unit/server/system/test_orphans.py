"""Orphans: process 1 waits for zombies that it did not start, and leaves the status of its own children alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]

PROGRAM = """
import ctypes, os, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
from server.system.orphans import Zombies

zombies = Zombies()
assert zombies.look() == []
# The shell ends before its child, which is given to this process then; its end is seen without being waited for.
shell = subprocess.Popen(["sh", "-c", "sleep 0 & echo $!"], stdout=subprocess.PIPE, text=True)
orphan = int(shell.communicate()[0])
own = subprocess.Popen(["true"])
for pid in (orphan, own.pid):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
assert zombies.look() == [], "a parent may be about to wait"
assert own.wait() == 0
assert zombies.look() == [orphan]
assert zombies.look() == []
try:
    os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOHANG)
except ChildProcessError:
    sys.exit(0)
sys.exit("the orphan is still there")
"""


def test_a_zombie_is_waited_for_at_its_second_look_and_own_children_keep_their_status() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
