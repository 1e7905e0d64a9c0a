"""TorchServe's service in ``bench peers``: the handler in its model archive."""

import json
import os

import numpy as np
import onnxruntime
from ts.torch_handler.base_handler import BaseHandler


class OnnxHandler(BaseHandler):
    def initialize(self, context):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(context.system_properties["model_dir"], context.manifest["model"]["serializedFile"])
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.initialized = True

    def handle(self, data, context):  # noqa: ARG002  # the caller's signature
        rows = [request.get("body") or request.get("data") for request in data]
        x = np.asarray(
            [row["input"] if isinstance(row, dict) else json.loads(row)["input"] for row in rows], np.float32
        )
        return [{"output": row} for row in self.session.run(None, {"x": x})[0].tolist()]
