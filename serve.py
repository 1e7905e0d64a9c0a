"""Entry point: ``python serve.py --model DIR``, and ``serve`` in the container. See ``--help``."""

import sys

from server.settings import from_process


def main() -> int:
    """Settings in, server out: the server's modules are imported only once the settings are known to be right."""
    settings = from_process()
    from server.launch import launch

    return launch(settings)


if __name__ == "__main__":
    sys.exit(main())
