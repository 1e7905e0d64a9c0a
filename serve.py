"""Entry point: ``python serve.py --model DIR``, and ``serve`` or ``doctor`` in the container. See ``--help``."""

import signal
import sys


def main() -> int:
    """Settings in, server out: the server's modules are imported only once the settings are known to be right."""
    # Until the event loop takes the signals over, they end the process as it should end: process 1 of a container would
    # ignore SIGTERM, and Ctrl-C would print a traceback of an import.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    from server.settings.reader import environment, from_process

    if sys.argv[1:2] == ["doctor"]:
        from server.doctor.command import main as doctor

        return doctor(sys.argv[2:], environment())
    settings = from_process()
    from server.launch import launch

    return launch(settings)


if __name__ == "__main__":
    sys.exit(main())
