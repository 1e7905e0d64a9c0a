"""One endpoint with version 2 of the SageMaker Python SDK: on this machine by default, in an account by an option.

    python recipe_v2.py build/model.tar.gz --image slipway:latest --body build/digits-train/payload.json
    python recipe_v2.py build/model.tar.gz --image ACCOUNT.dkr.ecr.REGION.amazonaws.com/slipway:1 \
        --body build/digits-train/payload.json --account arn:aws:iam::ACCOUNT:role/sagemaker

It deploys, sends one request, prints the response and removes everything. It needs ``sagemaker[local]<3``; on this
machine it needs docker too.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sagemaker import Model, Predictor, Session
from sagemaker.deserializers import JSONDeserializer
from sagemaker.local import LocalSession
from sagemaker.serializers import JSONSerializer

NOBODY = "arn:aws:iam::111111111111:role/local"
"""Local mode wants a role and never uses it."""


def main() -> None:
    given = arguments()
    session = Session() if given.account else LocalSession()
    model = Model(
        image_uri=given.image,
        model_data=archive(session, given),
        role=given.account or NOBODY,
        name=given.name,
        predictor_cls=Predictor,
        sagemaker_session=session,
        enable_network_isolation=True,  # the server makes no outbound calls
    )
    try:
        predictor = model.deploy(
            initial_instance_count=1,
            instance_type=given.instance_type if given.account else "local",
            endpoint_name=given.name,
            serializer=JSONSerializer(),
            deserializer=JSONDeserializer(),
            container_startup_health_check_timeout=300,
            # A server that forms batches answers in unequal times: the least busy instance is the right one.
            routing_config={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        )
        answer = predictor.predict(json.loads(given.body.read_text("utf-8")))
        print(f"\n{json.dumps(answer)}")  # the SDK's progress ends without a new line
    finally:
        if not (given.account and given.keep):
            remove(session.sagemaker_client, given.name)


def archive(session: Session, given: argparse.Namespace) -> str:
    """The address of the model archive: a file of this machine, or its upload in the bucket."""
    if not given.account:
        return f"file://{given.model.resolve()}"
    uploaded: str = session.upload_data(str(given.model), given.bucket, key_prefix=f"slipway/{given.name}")
    return uploaded


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
