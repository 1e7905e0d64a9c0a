"""The load of the stack: one blank digit for the digits model. For other models: ``python -m bench locustfile``."""

from locust import HttpUser, constant_throughput, task


class Caller(HttpUser):
    """Sends at most five requests a second. A closed loop underestimates tail latency; ``bench`` does not."""

    wait_time = constant_throughput(5)

    @task
    def ask(self) -> None:
        self.client.post("/invocations", json={"instances": [[0.0] * 64]})
