"""A load for the stack: the digits model asked with one blank digit. Other models: ``python -m bench locustfile``."""

from locust import HttpUser, constant_throughput, task


class Caller(HttpUser):
    """Five requests a second at most; the reports of ``bench`` say why a closed loop flatters the tail."""

    wait_time = constant_throughput(5)

    @task
    def ask(self) -> None:
        self.client.post("/invocations", json={"instances": [[0.0] * 64]})
