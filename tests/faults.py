"""Faults: exceptions that are raised at chosen calls of chosen functions, and the checks that nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from server.request import InferRequest


class Faults:
    """Wraps functions so that some of their calls raise. ``armed``: False once the faults are over."""

    def __init__(self, error: BaseException, numbers: set[int], *, after: bool = False) -> None:
        """``numbers``: which calls raise, counted from 1 over all wrapped functions. ``after``: raise when the function
        has done its work, instead of before."""
        self.error = error
        self.numbers = numbers
        self.after = after
        self.armed = True
        self.calls = 0
        self.raised = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with faults."""

        def call(*args: Any, **named: Any) -> Any:
            if not self.armed:
                return function(*args, **named)
            self.calls += 1
            if self.calls not in self.numbers:
                return function(*args, **named)
            self.raised += 1
            if self.after:
                function(*args, **named)
            raise self.error

        return call

    def plant(self, owner: Any, name: str) -> None:
        """Put faults around a method or function of an object or module."""
        setattr(owner, name, self.around(getattr(owner, name)))


class Responses:
    """Counts the response of each request: ``respond`` is what a protocol does when a request ends."""

    def __init__(self) -> None:
        self.count: Counter[InferRequest] = Counter()

    def respond(self, request: InferRequest) -> None:
        request.answered = True
        self.count[request] += 1

    def assert_once_each(self, admitted: list[InferRequest]) -> None:
        assert {request: self.count[request] for request in admitted} == dict.fromkeys(admitted, 1)
        assert sum(self.count.values()) == len(admitted)
