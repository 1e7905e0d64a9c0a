"""Runs in an environment that holds the SageMaker SDK: a local session hosts an image, asks it and ends it.

    python local_session.py VERSION IMAGE ARCHIVE PORT BODY

The last line of its output is JSON: the answer, and every host name that was looked up.
"""

import json
import os
import socket
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROLE = "arn:aws:iam::111111111111:role/local"
SILENT = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
"""Without it the SDK tells its makers of every call."""
PATIENCE_S = 60.0

looked_up: set[str] = set()
_real = socket.getaddrinfo


def _counting(host: Any, *arguments: Any, **more: Any) -> Any:
    looked_up.add(str(host))
    return _real(host, *arguments, **more)


def opened(version: str, port: int) -> Any:
    """A local session of either version."""
    if version == "2":
        from sagemaker.local import LocalSession

        session = LocalSession(sagemaker_config=SILENT)
    else:
        # JSON is YAML, too.
        override = Path.cwd() / "silent.yaml"
        override.write_text(json.dumps(SILENT), encoding="utf-8")
        os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"] = str(override)
        from sagemaker.core.local.local_session import LocalSession

        session = LocalSession()
    session.config = {"local": {"local_code": True, "serving_port": port}}
    return session


def hosted(session: Any, image: str, archive: str) -> Any:
    """Models and endpoints by the calls that boto3 has as well; both versions know them."""
    client = session.sagemaker_client
    client.create_model("model", {"Image": image, "ModelDataUrl": f"file://{archive}", "Environment": {}}, ROLE)
    variant = {"VariantName": "all", "ModelName": "model", "InitialInstanceCount": 1, "InstanceType": "local"}
    client.create_endpoint_config("config", [variant])
    client.create_endpoint("endpoint", "config")
    return client


def wait_ready(port: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    sys.exit("never became ready")


def main() -> None:
    version, image, archive, port, body = sys.argv[1:]
    socket.getaddrinfo = _counting
    session = opened(version, int(port))
    client = hosted(session, image, archive)
    try:
        wait_ready(int(port))
        answer = session.sagemaker_runtime_client.invoke_endpoint(
            Body=body, EndpointName="endpoint", ContentType="application/json", Accept="application/json"
        )
        said = json.loads(answer["Body"].read())
    finally:
        client.delete_endpoint("endpoint")
    sys.stdout.write("\n" + json.dumps({"answer": said, "looked_up": sorted(looked_up)}) + "\n")


if __name__ == "__main__":
    main()
