"""The services: boto3 clients that send calls, and their errors as ours."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..calls import Call
from ..errors import Denied, DeployError, NameTaken, NoCredentials, NotThere, QuotaReached, Throttled, Unreachable

ATTEMPTS = 6
"""Attempts of a throttled or failing call, with growing pauses."""
CONNECT_S, READ_S = 5, 60


class Missing(Exception):
    """The resource of a call does not exist."""


Refusal = tuple[str, str, type[DeployError], str]
"""Patterns of the code and the message, the failure, and what to do."""

REFUSALS: tuple[Refusal, ...] = (
    (
        r"ExpiredToken|InvalidClientTokenId|UnrecognizedClient|SignatureDoesNotMatch|InvalidAccessKeyId|AuthFailure",
        r"",
        NoCredentials,
        "log in again, or check AWS_PROFILE and the keys",
    ),
    (
        r"Validation|InvalidParameter|AccessDenied",
        r"assume.*\brole\b|\brole\b.*(assume|invalid|not found|does not exist)|PassRole",
        Denied,
        "check --role: it must exist and trust sagemaker.amazonaws.com, and the caller must be allowed to pass it",
    ),
    (r"AccessDenied|Unauthorized|Forbidden|^403$", r"", Denied, "print the permissions that are needed: policy"),
    (r"Throttl|TooManyRequests|RequestLimitExceeded|SlowDown|RateExceeded", r"", Throttled, "run the command again"),
    (r"Validation", r"Rate exceeded", Throttled, "run the command again"),
    (
        r"LimitExceeded|QuotaExceeded|ServiceQuota",
        r"",
        QuotaReached,
        "ask for a higher quota, or choose another instance type or a smaller count",
    ),
    (r"", r"InsufficientInstanceCapacity|Insufficient capacity", QuotaReached, "try another instance type or region"),
    (
        r"Validation|NotFound",
        r"(requested )?image .*(not found|does not exist|could not be)|repository .*(not found|does not exist)",
        NotThere,
        "push the image first (push), and check --image and its region",
    ),
    (
        r"Validation|NoSuch",
        r"(could not find|could not access|cannot find) .*(model data|s3:)|NoSuch",
        NotThere,
        "check that the model archive exists, is in the same region, and that --role may read it",
    ),
    (
        r"Validation|InUse|Conflict|AlreadyExists|BucketAlready",
        r"already exist|existing|in use|not available",
        NameTaken,
        "choose another --name",
    ),
    (r"BucketAlreadyExists", r"", NameTaken, "choose another --bucket"),
)


def failure_of(operation: str, code: str, message: str) -> DeployError:
    """The failure of a call, from the service's code and message."""
    said = " ".join(message.split())
    for codes, messages, kind, advice in REFUSALS:
        if re.search(codes, code, re.IGNORECASE) and re.search(messages, said, re.IGNORECASE):
            return kind(f"{operation}: {said}; {advice}")
    return DeployError(f"{operation}: {said} ({code})")


@dataclass(slots=True)
class Services:
    """Sends calls in one region. ``observe`` gets every call before it is sent."""

    region: str | None
    attempts: int = ATTEMPTS
    observe: Callable[[Call], None] = lambda _: None
    _clients: dict[str, Any] = field(default_factory=dict)

    def send(self, call: Call) -> dict[str, Any]:
        """The response. Raises Missing where the resource does not exist, and DeployError otherwise."""
        self.observe(call)
        if call.upload is None:
            return self._sent(call, call.parameters)
        with tempfile.TemporaryDirectory(prefix="slipway-deploy-") as workspace:
            archive = call.upload.pack(Path(workspace))
            with archive.open("rb") as body:
                return self._sent(call, {**call.parameters, "Body": body})

    def ask(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """The response of a reading call. Raises as :meth:`send` does."""
        return self.send(Call(service, operation, parameters))

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The items of all pages of a listing."""
        while True:
            page = self.ask(service, operation, **parameters)
            yield from page.get(key, ())
            token = next((name for name in ("NextToken", "NextContinuationToken", "nextToken") if page.get(name)), None)
            if token is None:
                return
            parameters["ContinuationToken" if token == "NextContinuationToken" else token] = page[token]  # noqa: S105

    def account(self) -> str:
        """The number of the caller's account."""
        return str(self.ask("sts", "GetCallerIdentity")["Account"])

    def _sent(self, call: Call, parameters: Mapping[str, Any]) -> dict[str, Any]:
        from botocore import exceptions, xform_name

        try:
            response: dict[str, Any] = getattr(self._client(call.service), xform_name(call.operation))(**parameters)
        except exceptions.ClientError as error:
            code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", str(error))
            if _is_missing(code, message):
                raise Missing(message) from error
            raise failure_of(call.operation, code, message) from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise NoCredentials(
                f"there are no AWS credentials ({error}): run aws configure, or set AWS_PROFILE"
            ) from error
        except (exceptions.TokenRetrievalError, exceptions.SSOError, exceptions.CredentialRetrievalError) as error:
            raise NoCredentials(f"the AWS credentials cannot be read ({error}): log in again") from error
        except exceptions.NoRegionError as error:
            raise DeployError("there is no region: pass --region, or set AWS_REGION") from error
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
            raise Unreachable(f"{call.service} does not answer: {error}; check the network and --region") from error
        except exceptions.BotoCoreError as error:
            raise DeployError(f"{call.operation}: {error}") from error
        return response

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            import boto3
            from botocore.config import Config

            config = Config(
                retries={"mode": "standard", "total_max_attempts": self.attempts},
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
            )
            self._clients[service] = boto3.client(service, region_name=self.region, config=config)
        return self._clients[service]


def _is_missing(code: str, message: str) -> bool:
    if code in ("404", "NoSuchBucket", "NoSuchKey", "NotFound", "ResourceNotFound", "RepositoryNotFoundException"):
        return True
    if code in ("ResourceNotFoundException", "ObjectNotFoundException", "ImageNotFoundException"):
        return True
    absent = r"^(Could not find|Cannot find) (model|endpoint|inference component)|ModelPackage(Group)? .*does not exist"
    return code.startswith("Validation") and re.match(absent, message) is not None and "s3:" not in message
