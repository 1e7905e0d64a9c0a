"""LitServe's service in ``bench peers``. It runs in LitServe's environment, in the folder of ``service.json``."""

import json
from pathlib import Path

import litserve
import numpy as np
import onnxruntime

SERVICE = json.loads((Path(__file__).parent / "service.json").read_text())


class Model(litserve.LitAPI):
    def setup(self, device):  # noqa: ARG002  # the caller's signature
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(SERVICE["model"], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        return np.asarray(request["input"], np.float32)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        return self.session.run(None, {"x": x})[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"output": output.tolist()}


if __name__ == "__main__":
    api = Model(max_batch_size=SERVICE["max_batch_size"], batch_timeout=SERVICE["wait_s"])
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=SERVICE["workers"], fast_queue=True, track_requests=False
    )
    server.run(host=SERVICE["host"], port=SERVICE["port"], generate_client_file=False, log_level="warning")
