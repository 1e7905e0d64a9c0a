"""The texts of programs that run beside a server, or around the load generator."""

from __future__ import annotations

import sys

BURN = "import os; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\nwhile True: pass"
HOG = (
    "import os, numpy; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)); a = numpy.ones(40_000_000)\n"
    "while True: a[:] = a[::-1]"
)
"""A program that copies 320 MB of memory over and over."""
BUILD = (
    "import os, subprocess, sys; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\n"
    "job = 'import time\\nwhile time.process_time() < 0.15: pass'\n"
    "while True: subprocess.run([sys.executable, '-S', '-E', '-c', job])"
)
"""A program that starts one short program after the other, as a build does."""
IDLE = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
"""A program that takes what all others leave."""
CRON = (
    "import os, subprocess, sys, time; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\n"
    "job = 'import time\\nwhile time.process_time() < 0.12: pass'\n"
    "while True:\n"
    "    time.sleep(2.2)\n"
    "    for one in [subprocess.Popen([sys.executable, '-S', '-E', '-c', job]) for _ in range(20)]: one.wait()"
)
"""Twenty short programs at once, now and then, as the jobs of a table of times."""
PULSES = (
    "import os, time; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)); os.nice(-20)\n"
    "while True:\n"
    "    while time.time() % 0.11 < 0.07: pass\n"
    "    time.sleep(0.11 - time.time() % 0.11)"
)
"""A program of high priority that works for 70 ms of each 110; several work at the same time."""
HICCUPS = (sys.executable, "-c", (
    "import signal, subprocess, sys, time\n"
    "from bench.observe import tree\n"
    "from tests.benchmarks.bench.plants.around import signal_all\n"
    "child = subprocess.Popen(sys.argv[1:])\n"
    "while child.poll() is None:\n"
    "    time.sleep(0.8)\n"
    "    stopped = tree.family((child.pid,))\n"
    "    signal_all(stopped, signal.SIGSTOP)\n"
    "    time.sleep(0.2)\n"
    "    signal_all(stopped, signal.SIGCONT)\n"
    "sys.exit(child.returncode)"
))  # fmt: skip
"""The start of a command that does not run for a fifth of each second, as on a machine that is taken away."""
