"""The cluster: what the REST interface of Ray's dashboard tells of Serve, and the calls that change it.

The interface takes the applications of a cluster as a whole, so a change of one sends the others again as they are.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from ..errors import DeployError, InvalidDescription, Unreachable

APPLICATIONS = "/api/serve/applications/"
LOG = "/api/v0/logs/file"
ANSWER_S = 60.0
"""The first change starts Serve's controller and proxies."""
SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class State:
    """What Serve tells of itself. ``applications``: name to what the interface calls ApplicationDetails."""

    applications: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    http: Mapping[str, Any] = field(default_factory=dict)
    """``host`` and ``port`` of the proxies; {}: Serve is not running."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Where Serve runs: what a change sends again, because it describes the cluster as a whole."""

    def configs(self) -> list[dict[str, Any]]:
        """The applications that came from a config, as they were sent."""
        sent = (one.get("deployed_app_config") for one in self.applications.values())
        return [dict(one) for one in sent if one]


@dataclass(frozen=True, slots=True)
class Cluster:
    """``url``: of the dashboard, without a path."""

    url: str

    def state(self) -> State:
        """What runs on the cluster. Raises Unreachable where nothing answers."""
        found = json.loads(self._ask("GET", APPLICATIONS))
        running = found.get("controller_info") or {}
        if not running.get("actor_id"):
            return State()
        return State(
            applications=found.get("applications") or {},
            http=found.get("http_options") or {},
            options={"proxy_location": found.get("proxy_location"), "http_options": found.get("http_options")},
        )

    def put(self, config: Mapping[str, Any]) -> None:
        """Make the applications of the cluster those of this config. Raises DeployError with Ray's reason."""
        self._ask("PUT", APPLICATIONS, config)

    def shut_down(self) -> None:
        """End Serve with all its applications."""
        self._ask("DELETE", APPLICATIONS)

    def log(self, node: str, name: str, lines: int) -> list[str]:
        """The newest lines of a log file of a node."""
        query = urlencode({"node_id": node, "filename": name, "lines": lines})
        return self._ask("GET", f"{LOG}?{query}").decode("utf-8", "replace").splitlines()

    def command(self, method: str, body: Any = None) -> str:
        """A change as a command line for a POSIX shell."""
        given = "" if body is None else " --json " + shlex.quote(json.dumps(body, ensure_ascii=False))
        return f"curl --fail-with-body --request {method}{given} {self.url}{APPLICATIONS}"

    def _ask(self, method: str, path: str, body: Any = None) -> bytes:
        sent = None if body is None else json.dumps(body).encode()
        where = urlsplit(self.url)
        kind = HTTPSConnection if where.scheme == "https" else HTTPConnection
        connection = kind(where.netloc, timeout=ANSWER_S)
        try:
            connection.request(method, path, sent, {"content-type": "application/json"} if sent else {})
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(
                f"no Ray cluster answers at {self.url} ({reason}): start one with ray start --head, or pass the "
                "address of its dashboard with --cluster"
            ) from error
        finally:
            connection.close()
        if response.status >= 300:
            raise DeployError(f"Ray at {self.url} refuses the {method}: {response.status}: {_reason(content)}")
        return content


def at(url: str) -> Cluster:
    """The cluster of a dashboard's address. Raises InvalidDescription for another form of address."""
    split = urlsplit(url)
    if split.scheme not in ("http", "https") or not split.netloc:
        raise InvalidDescription(f"--cluster {url}: write the address of the dashboard, as in http://127.0.0.1:8265")
    return Cluster(f"{split.scheme}://{split.netloc}")


def replicas(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The replicas of an application of ours, with ``state``, ``node_ip``, ``node_id`` and ``log_file_path``."""
    return [one for made in (found.get("deployments") or {}).values() for one in made.get("replicas") or ()]


def _reason(content: bytes) -> str:
    """The last line of Ray's message, which may be a traceback."""
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:SHOWN_CHARACTERS] if lines else "without a reason"
