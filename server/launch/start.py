"""The start of a server process: logs, the address, and the event loop."""

from __future__ import annotations

import logging
import signal
import socket
import sys

import uvloop

from .. import fatal
from ..errors import NotReady, SlipwayError
from ..observe.logs import LOG_FORMAT, LogWriter
from ..replicas.member import Member
from ..settings import sagemaker
from ..settings.options import Settings, aliases
from ..settings.reader import environment, unreadable_aliases
from ..system import collector, memory, orphans
from ..system.listening import listen, share
from .ending import FAILED, ended
from .slipway import Slipway

log = logging.getLogger("slipway")


def launch(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. The last line of the log is the first fatal cause."""
    writer = LogWriter(sys.stderr.fileno())
    writer.write_as(settings.log_format)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[writer])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    memory.bound_heaps()
    collector.search_rarely()
    orphans.adopt()
    environ = environment()
    for level, line in sagemaker.explain(environ, aliases(), settings.port, unreadable_aliases(environ)):
        log.log(level, line)
    try:
        with listen(settings.host, settings.port, settings.backlog) as sock:
            code = uvloop.run(Slipway(settings, [writer.families]).run(sock))
    except SlipwayError as error:
        log.critical("%s", fatal.line(error))
        return FAILED
    return ended(code)


def launch_replica(descriptor: int) -> int:
    """Serve as one of several processes. ``descriptor``: the end of a socket pair, whose other end the supervisor has.

    Returns the exit code.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # until the event loop handles them: nothing is served yet
    writer = LogWriter(sys.stderr.fileno())
    logging.basicConfig(format=LOG_FORMAT, handlers=[writer])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    memory.bound_heaps()
    collector.search_rarely()
    return ended(uvloop.run(serve_replica(socket.socket(fileno=descriptor), writer)))


async def serve_replica(end: socket.socket, writer: LogWriter) -> int:
    """Serve what the supervisor orders, until a signal or the supervisor's end. Returns the exit code."""
    member = Member()
    try:
        order = await member.open(end)
    except NotReady:
        return FAILED
    settings = Settings(**order.settings)
    logging.getLogger().setLevel(settings.log_level.upper())
    writer.write_as(settings.log_format, order.number)
    try:
        with share(settings.host, settings.port) as sock:
            return await Slipway(settings, [writer.families], member).run(sock)
    except SlipwayError as error:
        log.critical("%s", fatal.line(error))
        return FAILED
