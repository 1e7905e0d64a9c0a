"""Entry point: ``python serve.py --model DIR``, and ``serve`` or ``doctor`` in the container. See ``--help``."""

import signal
import sys


def main() -> int:
    """Read the settings and run the server. The server is imported after the settings have been checked."""
    # Until the event loop handles signals, these handlers end the process with code 0: without them process 1 of a
    # container ignores SIGTERM, and Ctrl-C prints a traceback.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    from server.settings.reader import environment, from_process

    if sys.argv[1:2] == ["doctor"]:
        from server.doctor.command import main as doctor

        return doctor(sys.argv[2:], environment())
    settings = from_process()
    if settings.processes != 1:
        from server.replicas.supervisor import supervise

        return supervise(settings)
    from server.launch import launch

    return launch(settings)


if __name__ == "__main__":
    sys.exit(main())
