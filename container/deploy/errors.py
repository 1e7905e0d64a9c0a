"""The failures of deployment: one sentence each, that says what to do, and an exit code for each kind."""

from __future__ import annotations

from typing import ClassVar


class DeployError(Exception):
    """Root of the failures; the message says what was wrong and what to do."""

    exit_code: ClassVar[int] = 1


class InvalidDescription(DeployError):
    """The description is incomplete or impossible; nothing was sent."""

    exit_code = 2


class NoCredentials(DeployError):
    """There are no credentials, or they have expired."""

    exit_code = 3


class Denied(DeployError):
    """The caller or the execution role lacks a permission, or the role cannot be assumed."""

    exit_code = 4


class NotThere(DeployError):
    """The image, the model data, the role or the deployment does not exist."""

    exit_code = 5


class QuotaReached(DeployError):
    """A quota of the account is reached, or the platform has no capacity of this instance type."""

    exit_code = 6


class TookTooLong(DeployError):
    """The endpoint was not in its final state in time; it may still get there."""

    exit_code = 7


class NameTaken(DeployError):
    """Something of that name exists that this deployment did not create."""

    exit_code = 8


class Throttled(DeployError):
    """The service refused the rate of calls, also after retries."""

    exit_code = 9


class DeploymentFailed(DeployError):
    """The container did not start, or the update was rolled back; the message has the first fatal line of its log."""

    exit_code = 10


class Unreachable(DeployError):
    """The service cannot be reached over the network."""

    exit_code = 11
