"""The other client: requests at even times, on threads, for ever.

python -m tests.benchmarks.bench.plants.other_client URL BODY RATE
"""

from __future__ import annotations

import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from bench.load.payload import CONTENT_TYPES


def load(url: str, body: Path, rate: float) -> None:
    """Send the body at a rate per second until the process ends."""
    data, kind = body.read_bytes(), CONTENT_TYPES[body.suffix]

    def send() -> None:
        with suppress(OSError):
            request = urllib.request.Request(url, data, {"Content-Type": kind})
            urllib.request.urlopen(request, timeout=10).read()

    due = time.monotonic()
    while True:
        due += 1 / rate
        time.sleep(max(due - time.monotonic(), 0))
        threading.Thread(target=send, daemon=True).start()


if __name__ == "__main__":
    load(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
