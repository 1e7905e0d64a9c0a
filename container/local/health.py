"""The health check: at first until the start-up budget is spent, then every few seconds for the container's life."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .call import Address, NoAnswer, call
from .instance import DidNotStart, Instance
from .limits import Limits

LOOK_S = 0.05
AGENT = {"user-agent": "AHC/2.0"}


def ping(address: Address, limits: Limits) -> str | None:
    """None when healthy; otherwise what was wrong, in a few words."""
    try:
        answer = call(address, "GET", "/ping", AGENT, within_s=limits.ping_timeout_s)
    except NoAnswer as error:
        return str(error)
    return None if answer.status == 200 else f"/ping said {answer.status} {answer.text[:200]}".rstrip()


def wait_healthy(instance: Instance, address: Address, limits: Limits) -> float:
    """Ping until the answer is 200; seconds that it took.

    Raises DidNotStart, in the platform's words and with the reason, when the container ends or its time is up.
    """
    begun = time.monotonic()
    while True:
        wrong = ping(address, limits)
        took = time.monotonic() - begun
        if wrong is None:
            return took
        if not instance.running:
            code = instance.process.wait()
            raise DidNotStart(
                f"the container did not pass the ping health check: it ended with {code}: {instance.cause()}"
            )
        if took > limits.startup_s:
            raise DidNotStart(
                f"the container did not pass the ping health check within {limits.startup_s:g} s: {wrong}; "
                f"it said: {instance.cause()}"
            )
        time.sleep(LOOK_S)


class Watch:
    """Pings at the platform's cadence and tells of every change."""

    def __init__(self, instance: Instance, address: Address, limits: Limits, tell: Callable[[str], None]) -> None:
        self._instance = instance
        self._address = address
        self._limits = limits
        self._tell = tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ping", daemon=True)
        self.wrong: str | None = None
        """What the last ping found."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(self._limits.ping_timeout_s + self._limits.accept_s + 1)

    def look(self) -> bool:
        """One ping. False when there will be nothing more to see."""
        if not self._instance.running:
            self.wrong = f"the container ended: {self._instance.cause()}"
            self._tell(f"{self.wrong}; the platform would start another one")
            return False
        wrong = ping(self._address, self._limits)
        if wrong is not None and self.wrong is None:
            self._tell(f"unhealthy: {wrong}; the platform would replace the instance")
        elif wrong is None and self.wrong is not None:
            self._tell("healthy again")
        self.wrong = wrong
        return True

    def _run(self) -> None:
        while not self._over.wait(self._limits.ping_interval_s):
            if not self.look():
                return
