"""Runs a recipe of examples/sagemaker where the SageMaker SDK is installed, and watches what it sends, and where to.

    python watched.py RECIPE ARGUMENT...

The last line of its output is one JSON object: ``looked_up``, every host name, and ``sent``, every call of boto3.
"""

import json
import runpy
import socket
import sys
from typing import Any

from botocore.client import BaseClient
from botocore.exceptions import ClientError

looked_up: set[str] = set()
sent: list[dict[str, Any]] = []
_look_up, _send = socket.getaddrinfo, BaseClient._make_api_call


def _looking_up(host: Any, *arguments: Any, **more: Any) -> Any:
    looked_up.add(str(host))
    return _look_up(host, *arguments, **more)


def _sending(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
    if operation == "SimulatePrincipalPolicy":
        # moto lacks it. Callers in Studio usually lack the permission, and the SDK goes on without an answer.
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not allowed"}}, operation)
    sent.append({"operation": operation, "parameters": parameters})
    answer = _send(client, operation, parameters)
    if operation.startswith("Describe"):
        # moto returns an empty object for what a resource does not have; the service leaves it out.
        return {name: value for name, value in answer.items() if value != {}}
    return answer


if __name__ == "__main__":
    socket.getaddrinfo = _looking_up
    BaseClient._make_api_call = _sending
    del sys.argv[0]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.stdout.write("\n" + json.dumps({"looked_up": sorted(looked_up), "sent": sent}, default=str) + "\n")
