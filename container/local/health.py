"""The health check: pings during start-up within its time limit, then every few seconds until the container ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .call import Address, NoResponse, call
from .container import Container, DidNotStart
from .limits import PlatformLimits

RETRY_S = 0.05
AGENT = {"user-agent": "AHC/2.0"}


def ping(address: Address, limits: PlatformLimits) -> str | None:
    """None when healthy; otherwise the reason, in a few words."""
    try:
        response = call(address, "GET", "/ping", AGENT, within_s=limits.ping_timeout_s)
    except NoResponse as error:
        return str(error)
    return None if response.status == 200 else f"/ping returned {response.status} {response.text[:200]}".rstrip()


def wait_healthy(container: Container, address: Address, limits: PlatformLimits) -> float:
    """Ping until the status is 200, and return the seconds that it took.

    Raises DidNotStart, in the platform's words and with the reason, when the container ends or the time limit passes.
    """
    begun = time.monotonic()
    while True:
        problem = ping(address, limits)
        took = time.monotonic() - begun
        if problem is None:
            return took
        if not container.running:
            code = container.process.wait()
            raise DidNotStart(
                f"the container did not pass the ping health check: it ended with {code}: {container.cause()}"
            )
        if took > limits.startup_s:
            raise DidNotStart(
                f"the container did not pass the ping health check within {limits.startup_s:g} s: {problem}; "
                f"last log line: {container.cause()}"
            )
        time.sleep(RETRY_S)


class HealthMonitor:
    """Pings at the platform's interval and logs every change of health."""

    def __init__(
        self, container: Container, address: Address, limits: PlatformLimits, log: Callable[[str], None]
    ) -> None:
        self._container = container
        self._address = address
        self._limits = limits
        self._log = log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ping", daemon=True)
        self.problem: str | None = None
        """The reason why the last ping failed; None when it succeeded."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(self._limits.ping_timeout_s + self._limits.accept_s + 1)

    def check(self) -> bool:
        """Ping once. False when the container has ended."""
        if not self._container.running:
            self.problem = f"the container ended: {self._container.cause()}"
            self._log(f"{self.problem}; the platform would start another one")
            return False
        problem = ping(self._address, self._limits)
        if problem is not None and self.problem is None:
            self._log(f"unhealthy: {problem}; the platform would replace the instance")
        elif problem is None and self.problem is not None:
            self._log("healthy again")
        self.problem = problem
        return True

    def _run(self) -> None:
        while not self._over.wait(self._limits.ping_interval_s):
            if not self.check():
                return
