"""The context argument of script functions: request headers to read, response status and headers to set.

Its interface is that of the multi-model server's context, which existing scripts use. That server changes one context
for each request; here each call, or each batch of calls, has a context of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..errors import ModelFailed
from ..request import Headers
from .call import Call

log = logging.getLogger("slipway.scripts")

FRAMING = frozenset(("content-length", "transfer-encoding", "connection", "content-type", "date"))
"""Response headers that the server writes itself."""


class RequestHeaders(dict[str, str]):
    """Request headers by name. Look-ups ignore case; iteration shows the names as the server read them."""

    def __missing__(self, key: str) -> str:
        wanted = key.lower()
        for name, value in self.items():
            if name.lower() == wanted:
                return value
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None


class RequestProcessor:
    """One request of a context, with the status and headers that the script sets for its response."""

    def __init__(self, call: Call | None) -> None:
        self._call = call
        self._request: RequestHeaders | None = None
        self._response: dict[str, str] = {}
        self._status = 200
        self._phrase: str | None = None

    def get_request_properties(self) -> RequestHeaders:
        """All headers of the request."""
        if self._request is None:
            pairs = self._call.headers if self._call is not None else []
            self._request = RequestHeaders((key.decode("latin-1"), value.decode("latin-1")) for key, value in pairs)
        return self._request

    def get_request_property(self, key: str) -> str | None:
        """One header of the request, None if it is absent."""
        value: str | None = self.get_request_properties().get(key)
        return value

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the status of the response."""
        self._status = code
        self._phrase = reason_phrase

    def get_response_status_code(self) -> int:
        return self._status

    def get_response_status_phrase(self) -> str | None:
        return self._phrase

    def add_response_property(self, key: str, value: str) -> None:
        """Set a header of the response."""
        self._response[key] = value

    def get_response_header(self) -> dict[str, str]:
        return self._response

    get_response_headers = get_response_header

    def outcome(self) -> tuple[int, str | None, Headers]:
        """Status, content type (None if not set) and further headers of the response.

        Raises ModelFailed for a status outside 200 to 599 and for an invalid header.
        """
        if not isinstance(self._status, int) or not 200 <= self._status <= 599:
            raise ModelFailed(f"the script set the status {self._status!r}; a status must be a number from 200 to 599")
        content_type: str | None = None
        headers: Headers = []
        for key, value in self._response.items():
            name, text = str(key).lower(), str(value)
            try:
                pair = name.encode("ascii"), text.encode("latin-1")
            except UnicodeEncodeError as error:
                raise ModelFailed(f"the script set the header {name!r}, which is not valid in HTTP") from error
            if not name or any(c <= " " or c == ":" for c in name) or any(c < 32 and c != 9 for c in pair[1]):
                raise ModelFailed(f"the script set the header {name!r}, which is not valid in HTTP")
            if name == "content-type":
                content_type = text
            elif name not in FRAMING:
                headers.append(pair)
        return self._status, content_type, headers


class ScriptMetrics:
    """The multi-model server's metrics interface. Each metric becomes a log line."""

    def __init__(self, name: str) -> None:
        self._name = name

    def add_metric(self, name: str, value: Any, idx: int | None = None, unit: str | None = None, **_: Any) -> None:  # noqa: ARG002 - the script's signature
        log.info("script metric model=%s %s=%s%s", self._name, name, value, f" unit={unit}" if unit else "")

    def add_counter(self, name: str, value: Any, idx: int | None = None, dimensions: Any = None) -> None:  # noqa: ARG002
        self.add_metric(name, value, idx)

    def add_time(self, name: str, value: Any, idx: int | None = None, unit: str = "ms", dimensions: Any = None) -> None:  # noqa: ARG002
        self.add_metric(name, value, idx, unit)

    def add_size(self, name: str, value: Any, idx: int | None = None, unit: str = "MB", dimensions: Any = None) -> None:  # noqa: ARG002
        self.add_metric(name, value, idx, unit)

    def add_percent(self, name: str, value: Any, idx: int | None = None, dimensions: Any = None) -> None:  # noqa: ARG002
        self.add_metric(name, value, idx, "%")

    def add_error(self, name: str, value: Any, dimensions: Any = None) -> None:  # noqa: ARG002
        self.add_metric(name, value)


class Context:
    """The last argument of a script function that takes one more. While the model loads it holds no request."""

    def __init__(self, model_name: str, system_properties: dict[str, Any], calls: Sequence[Call] = ()) -> None:
        self.model_name = model_name
        self.manifest: dict[str, Any] = {"model": {"modelName": model_name}}
        self.system_properties = system_properties
        self.model_yaml_config: dict[str, Any] = {}
        self.request_ids = {index: call.request_id for index, call in enumerate(calls)}
        self.request_processor = [RequestProcessor(call) for call in calls] or [RequestProcessor(None)]
        self.metrics = ScriptMetrics(model_name)
        self._session = calls[0].session if calls else None

    def get_request_id(self, idx: int = 0) -> str | None:
        return self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> str | None:
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> RequestHeaders:
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.request_processor[idx].add_response_property("content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        return self.request_processor[idx].get_response_header().get("content-type")

    def get_response_headers(self, idx: int) -> dict[str, str]:
        return self.request_processor[idx].get_response_header()

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.request_processor[idx].add_response_property(key, value)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of one response. The phrase is not sent: HTTP has a fixed one for each status."""
        self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        for processor in self.request_processor:
            processor.report_status(code, phrase)

    @property
    def session(self) -> dict[str, Any] | None:
        """The script's own dictionary of the first request's stateful session, None without a session."""
        session = self._session
        return None if session is None else session.data

    @property
    def session_id(self) -> str | None:
        """The id of the first request's stateful session, None without a session."""
        session = self._session
        return None if session is None else session.id

    @property
    def custom_attributes(self) -> str | None:
        """The header ``X-Amzn-SageMaker-Custom-Attributes`` of the first request, None if it is absent."""
        return self.get_request_header(0, "x-amzn-sagemaker-custom-attributes")
