"""Ray Serve's service in ``bench peers``. It runs in Ray's environment, in the folder of ``service.json``."""

import json
import signal
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import ray
from ray import serve

SERVICE = json.loads((Path(__file__).parent / "service.json").read_text())


def keep_private() -> None:
    """Bind the port for other replicas to the loopback: a constant of Ray binds it to all interfaces."""
    from ray.serve._private import replica

    add = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _address: add(server, f"{SERVICE['host']}:0")


@serve.deployment(
    num_replicas=SERVICE["workers"],
    max_ongoing_requests=2 * SERVICE["max_batch_size"],
    ray_actor_options={"num_cpus": 1},
)
class Model:
    def __init__(self, model: str) -> None:
        keep_private()  # runs before that port is opened
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @serve.batch(max_batch_size=SERVICE["max_batch_size"], batch_wait_timeout_s=SERVICE["wait_s"])
    async def predict(self, rows: list) -> list:
        return self.session.run(None, {"x": np.asarray(rows, np.float32)})[0].tolist()

    async def __call__(self, request):
        return {"output": await self.predict((await request.json())["input"])}


if __name__ == "__main__":
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ray.init(
        num_cpus=SERVICE["workers"],
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
        _temp_dir=SERVICE["scratch"],
    )
    serve.start(http_options={"host": SERVICE["host"], "port": SERVICE["port"]})
    serve.run(Model.bind(SERVICE["model"]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    ray.shutdown()
