"""``python -m tests.gpu.breakable DEVICE [FLAGS OF THE SERVER]``: a server that loses its device on SIGUSR2."""

from __future__ import annotations

import signal
import sys
import threading

import serve

from .faults import break_context


def main() -> int:
    device, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    asked = threading.Event()
    signal.signal(signal.SIGUSR2, lambda *_: asked.set())
    threading.Thread(target=_wait, args=(asked, device), daemon=True).start()
    return serve.main()


def _wait(asked: threading.Event, device: str) -> None:
    asked.wait()
    if device == "fake":
        from tests.gpu.fake import counters

        counters.fail(700)
    else:
        break_context()


if __name__ == "__main__":
    sys.exit(main())
