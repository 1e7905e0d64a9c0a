"""SageMaker on this machine: ``serve`` an endpoint, ``transform`` folders, ``check`` the contract. See ``--help``."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from server import fatal
from server.doctor.findings import verdict

from . import arguments, contract, sample
from .asynchronous import Asynchronous, Config
from .call import Address
from .endpoint import Endpoint
from .hosting import HOST, BadPlan, Hosting, Plan
from .instance import DidNotStart
from .model import BadModel
from .refusal import Refusal
from .runtime import Runtime, listening
from .sample import Sample
from .store import Store
from .targets import Targets
from .transform import JobFailed, Transform, ask_advice, settle


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 when all went well, 1 when not, 2 for a wrong command line."""
    options = arguments.parser().parse_args(argv)
    # SIGTERM as Ctrl-C: whoever ends this also wants the container gone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="slipway-local-") as workspace:
        # The container may run as any user, and reads what is unpacked here.
        Path(workspace).chmod(0o755)
        commands = {"serve": _serve, "transform": _transform, "check": _check}
        try:
            return commands[options.command](options, Path(workspace))
        except BadPlan as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except (DidNotStart, BadModel, JobFailed, Refusal, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 0 if options.command == "serve" else 130  # an endpoint is ended this way and no other


def _tell(event: str) -> None:
    print(f"local: {event}", flush=True)


def _serve(options: argparse.Namespace, workspace: Path) -> int:
    plan = arguments.plan(options)
    listener = socket.create_server((HOST, options.port))
    with listener, ExitStack() as stack:
        hosting = _started(plan, workspace, stack)
        targets = None
        if options.multi_model is not None:
            targets = Targets(
                options.multi_model,
                hosting.models_here,
                hosting.models_there,
                hosting.address,
                plan.limits,
                _tell,
                options.endpoint_name,
            )
            stack.callback(targets.close)
            targets.greet()
        endpoint = Endpoint(options.endpoint_name, hosting, targets)
        asynchronous = None
        if options.async_folder is not None:
            config = Config(max_concurrent_invocations_per_instance=options.max_concurrent_invocations_per_instance)
            asynchronous = Asynchronous(endpoint, Store(options.async_folder), config, _tell)
            stack.callback(asynchronous.close)
        _listen(Runtime(endpoint, asynchronous), listener, options.endpoint_name)
    return 0


def _started(plan: Plan, workspace: Path, stack: ExitStack) -> Hosting:
    hosting = Hosting(plan, workspace, _tell, echo=sys.stderr)
    seconds = hosting.start()
    _tell(f"healthy after {seconds:.1f} s")

    def end() -> None:
        code, took = hosting.stop()
        _tell(f"SIGTERM; the container ended with {code} after {took:.1f} s")

    stack.callback(end)
    return hosting


def _listen(runtime: Runtime, listener: socket.socket, name: str) -> None:
    """Until SIGINT or SIGTERM. From then on a second one interrupts the end."""
    told = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    with listening(runtime, listener) as url:
        for number in signals:
            signal.signal(number, lambda *_: told.set())
        _tell(f"InService: EndpointName {name!r} at endpoint_url {url}; Ctrl-C stops")
        told.wait()
        for number in signals:
            signal.signal(number, signal.default_int_handler)


def _transform(options: argparse.Namespace, workspace: Path) -> int:
    job = arguments.job(options)
    plan = replace(arguments.plan(options), injected=job.environ())
    with ExitStack() as stack:
        hosting = _started(plan, workspace, stack)
        terms = settle(job, ask_advice(hosting.address))
        size = "chunks" if terms.payload_bytes is None else f"at most {terms.payload_bytes} bytes"
        _tell(f"{terms.strategy}, {size}, {terms.concurrent} at a time")
        count = Transform(job, hosting.address, terms, _tell).run()
    _tell(f"{count} files")
    return 0


def _check(options: argparse.Namespace, workspace: Path) -> int:
    plan = arguments.plan(options)
    hosting = Hosting(plan, workspace, lambda _: None, echo=None)

    def choose(address: Address) -> Sample | None:
        if options.body is not None:
            return Sample(options.body.read_bytes(), options.content_type, str(options.body))
        unpacked = workspace / "model"
        return sample.find(unpacked if unpacked.exists() else plan.model or unpacked, address)

    findings = []
    for finding in contract.walk(hosting, choose):
        print(f"{finding.level.value:<6}{finding.subject:<10}{finding.line}", flush=True)
        findings.append(finding)
    code, last = verdict(findings)
    print(last.replace(fatal.MARK, "breaks the contract: ").replace("can serve", "keeps the contract"))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
