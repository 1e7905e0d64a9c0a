"""The other client: requests at even times, so many at once, on threads, for ever.

python -m tests.benchmarks.bench.plants.other_client URL BODY RATE AT_ONCE
"""

from __future__ import annotations

import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from bench.load.payload import CONTENT_TYPES


def load(url: str, body: Path, rate: float, at_once: int) -> None:
    """Send the body so many times at once, ``rate`` times a second, until the process ends."""
    data, kind = body.read_bytes(), CONTENT_TYPES[body.suffix]

    def send() -> None:
        with suppress(OSError):
            request = urllib.request.Request(url, data, {"Content-Type": kind})
            urllib.request.urlopen(request, timeout=10).read()

    due = time.monotonic()
    while True:
        due += 1 / rate
        time.sleep(max(due - time.monotonic(), 0))
        for _ in range(at_once):
            threading.Thread(target=send, daemon=True).start()


if __name__ == "__main__":
    load(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
