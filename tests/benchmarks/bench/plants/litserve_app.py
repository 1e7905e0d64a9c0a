"""LitServe with planted faults. It runs in LitServe's environment, in the folder of ``planted.json``."""

import json
from pathlib import Path

import litserve
import users
from faulty_model import FaultyModel

PLANTED = json.loads((Path(__file__).parent / "planted.json").read_text())
FAULTS, CODE = PLANTED["faults"], PLANTED["code"]
LARGEST = 8


class Planted(litserve.LitAPI):
    def setup(self, device):  # the caller's signature
        self.model = users.make(CODE, Path(__file__).parent) if CODE else FaultyModel(FAULTS)

    def decode_request(self, request):
        return request if CODE else request["values"]

    def batch(self, inputs):
        return list(inputs)

    def predict(self, values):
        if "timer" in FAULTS:
            return [self.model.predict(one) for one in values]
        return self.model.predict(values)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output if CODE else {"values": output}


class Closing:
    """Middleware that lets the server close each connection."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def closing(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self.app(scope, receive, closing if scope["type"] == "http" else send)


if __name__ == "__main__":
    batching = {"max_batch_size": LARGEST, "batch_timeout": FAULTS["timer"]} if "timer" in FAULTS else {}
    server = litserve.LitServer(
        Planted(**batching), accelerator="cpu", workers_per_device=PLANTED["workers"], track_requests=False,
        middlewares=[Closing] if "close" in FAULTS else None,
    )  # fmt: skip
    server.run(host="127.0.0.1", port=PLANTED["port"], generate_client_file=False, log_level="warning")
