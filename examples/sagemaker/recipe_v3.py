"""One endpoint with version 3 of the SageMaker Python SDK: on this machine by default, in an account by an option.

    python recipe_v3.py build/model.tar.gz --image slipway:latest --body build/digits-train/payload.json
    python recipe_v3.py build/model.tar.gz --image ACCOUNT.dkr.ecr.REGION.amazonaws.com/slipway:1 \
        --body build/digits-train/payload.json --account arn:aws:iam::ACCOUNT:role/sagemaker

It deploys, sends one request, prints the response and removes everything. It needs ``sagemaker>=3``; on this machine
it needs docker too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sagemaker.core.helper.session_helper import Session
from sagemaker.core.local.local_session import LocalSession
from sagemaker.core.training.configs import Networking
from sagemaker.serve import ModelBuilder

JSON = "application/json"
NOBODY = "arn:aws:iam::111111111111:role/local"
"""Local mode wants a role and never uses it."""


def main() -> None:
    given = arguments()
    session = Session() if given.account else LocalSession()
    try:
        body = given.body.read_text("utf-8")
        answer = in_account(session, given, body) if given.account else on_this_machine(session, given, body)
        print(f"\n{answer}")  # the SDK's progress ends without a new line
    finally:
        if not (given.account and given.keep):
            remove(session.sagemaker_client, given.name)


def in_account(session: Session, given: argparse.Namespace, body: str) -> str:
    """Deploy by ModelBuilder, send one request and return the response."""
    builder = ModelBuilder(
        image_uri=given.image,
        s3_model_data_url=session.upload_data(str(given.model), given.bucket, key_prefix=f"slipway/{given.name}"),
        role_arn=given.account,
        instance_type=given.instance_type,
        network=Networking(enable_network_isolation=True),  # the server makes no outbound calls
        sagemaker_session=session,
    )
    builder.build(model_name=given.name)
    endpoint = builder.deploy(
        endpoint_name=given.name,
        initial_instance_count=1,
        container_startup_health_check_timeout=300,
        # A server that forms batches answers in unequal times: the least busy instance is the right one.
        routing_config={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    )
    answer: str = endpoint.invoke(body=body, content_type=JSON, accept=JSON).body.read().decode()
    return answer


def on_this_machine(session: LocalSession, given: argparse.Namespace, body: str) -> str:
    """The same in local mode, which ModelBuilder cannot use for an image of this machine (README.md says why)."""
    client = session.sagemaker_client
    container = {"Image": given.image, "ModelDataUrl": f"file://{given.model.resolve()}", "Environment": {}}
    client.create_model(ModelName=given.name, PrimaryContainer=container, ExecutionRoleArn=NOBODY)
    variant = {"VariantName": "AllTraffic", "ModelName": given.name, "InitialInstanceCount": 1, "InstanceType": "local"}
    client.create_endpoint_config(EndpointConfigName=given.name, ProductionVariants=[variant])
    client.create_endpoint(EndpointName=given.name, EndpointConfigName=given.name)
    answer = session.sagemaker_runtime_client.invoke_endpoint(
        EndpointName=given.name, Body=body, ContentType=JSON, Accept=JSON
    )
    text: str = answer["Body"].read().decode()
    return text


def remove(client: Any, name: str) -> None:
    """Delete endpoint, configuration and model. A deployment that failed may lack some of them."""
    kinds = (
        (client.delete_endpoint, "EndpointName"),
        (client.delete_endpoint_config, "EndpointConfigName"),
        (client.delete_model, "ModelName"),
    )
    for delete, kind in kinds:
        try:
            delete(**{kind: name})
        except Exception as error:  # noqa: BLE001 - local mode raises others than an account
            print(f"not deleted: {name}: {error}", file=sys.stderr)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.tar.gz, as python -m optimize package writes it")
    parser.add_argument("--image", required=True, help="image of this machine, or of ECR for an account")
    parser.add_argument("--body", type=Path, required=True, help="file with a request in JSON")
    parser.add_argument("--account", metavar="ROLE", help="deploy to the account with this execution role")
    parser.add_argument("--bucket", help="in the account, for the archive (default: the session's default bucket)")
    parser.add_argument("--instance-type", default="ml.c5.large", help="in the account (default: %(default)s)")
    parser.add_argument("--name", default="slipway-digits", help="default: %(default)s")
    parser.add_argument("--keep", action="store_true", help="leave the endpoint in the account")
    return parser.parse_args()


if __name__ == "__main__":
    main()
