"""``python -m container.update run | once | replay``: newly trained models, released automatically. See ``--help``."""

from __future__ import annotations

import fcntl
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import judge, record, settings
from .engine import open_engine
from .errors import Unreachable, UpdateError
from .loop import PROMOTED, REJECTED, Loop
from .registry import PREFIX, Registry, aws_client
from .watch import Folder

FAILED, USAGE, NOT_PROMOTED, INTERRUPTED = 1, 2, 3, 130
LOCK = "lock"
log = logging.getLogger("slipway.update")


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 done, 1 failure, 2 invalid command line, 3 a candidate was rejected, or a replay disagrees."""
    options = settings.parser().parse_args(argv)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        if options.command == "replay":
            return replay(options.record)
        given = settings.read(options)
        return _run(given, once=options.command == "once")
    except UpdateError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except Exception as error:
        log.exception("the loop ended")
        print(f"error: unexpected {type(error).__name__}: {error}; the same command continues", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED


def _run(given: settings.Settings, *, once: bool) -> int:
    """Update to every new model, or to the newest one. Raises UpdateError."""
    work = Path(given.work)
    work.mkdir(parents=True, exist_ok=True)
    with (work / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UpdateError(f"another update runs in {work}; end it, or choose another --work") from error
        loop = Loop(given, record.opened(work / record.NAME), open_engine(given))
        source = _source(given)
        outcome, told = "", False
        while True:
            time.sleep(given.poll_s)  # also before the first update: a model must not change between two looks
            try:
                update = loop.unfinished()
                if update is None:
                    arrival = source.look()
                    if arrival is not None and not loop.known(arrival):
                        update = loop.begin(arrival)
                if update is not None:
                    outcome = loop.run(update)
                    print(f"update: version {update.version} of {update.found['source']}: {outcome}: {update.reason}")
                told = False
                if once:
                    return NOT_PROMOTED if outcome == REJECTED else 0
            except Unreachable as error:
                if once:
                    raise UpdateError(str(error)) from error
                if not told:
                    log.warning("waiting: %s", error)
                told = True


def _source(given: settings.Settings) -> Folder | Registry:
    """What is watched. Raises UpdateError."""
    if given.watch.startswith(PREFIX):
        return Registry(given.watch.removeprefix(PREFIX), Path(given.work) / "downloads", aws_client)
    folder = Folder(Path(given.watch))
    folder.look()
    return folder


def replay(path: Path) -> int:
    """Print every update of a record, and decide each step again from its evidence. Raises UpdateError."""
    path = path / record.NAME if path.is_dir() else path
    if not path.is_file():
        raise UpdateError(f"{path} is no record")
    differs = 0
    for update in record.opened(path).updates:
        print(f"{update.identity}: {update.outcome or 'unfinished'}: {update.reason}")
        refused = ""
        for step, evidence in update.done.items():
            verdict = judge.of_step(step, evidence)
            refused = refused or verdict
            print(f"  {step}: {verdict or 'passed'} {json.dumps(_short(evidence))}")
        if refused and (update.outcome == PROMOTED or (update.outcome == REJECTED and update.reason != refused)):
            differs += 1
            print("  the evidence says otherwise")
    return NOT_PROMOTED if differs else 0


def _short(evidence: Any) -> Any:
    return {key: value for key, value in evidence.items() if key != "output"}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
