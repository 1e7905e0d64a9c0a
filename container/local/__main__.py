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
from .api_error import ApiError
from .asynchronous import AsyncInferenceConfig, AsyncInvocations
from .call import Address
from .container import DidNotStart
from .endpoint import Endpoint
from .hosting import HOST, Hosting, HostingPlan, InvalidPlan
from .model import InvalidModel
from .runtime import Runtime, listening
from .sample import Sample
from .store import ObjectStore
from .targets import TargetModels
from .transform import TransformJobFailed, TransformRun, fetch_execution_parameters, resolve_parameters


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 success, 1 failure, 2 invalid command line."""
    options = arguments.parser().parse_args(argv)
    # SIGTERM ends this program as Ctrl-C does, so that the container is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="slipway-local-") as workspace:
        # The container may run as any user, and reads the files that are unpacked here.
        Path(workspace).chmod(0o755)
        commands = {"serve": _serve, "transform": _transform, "check": _check}
        try:
            return commands[options.command](options, Path(workspace))
        except InvalidPlan as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except (DidNotStart, InvalidModel, TransformJobFailed, ApiError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 0 if options.command == "serve" else 130  # Ctrl-C is the normal end of an endpoint


def _log(event: str) -> None:
    print(f"local: {event}", flush=True)


def _serve(options: argparse.Namespace, workspace: Path) -> int:
    plan = arguments.plan(options)
    listener = socket.create_server((HOST, options.port))
    with listener, ExitStack() as stack:
        hosting = _started(plan, workspace, stack)
        targets = None
        if options.multi_model is not None:
            targets = TargetModels(
                options.multi_model,
                hosting.models_host_path,
                hosting.models_container_path,
                hosting.address,
                plan.limits,
                _log,
                options.endpoint_name,
            )
            stack.callback(targets.close)
            targets.verify_protocol()
        endpoint = Endpoint(options.endpoint_name, hosting, targets)
        asynchronous = None
        if options.async_folder is not None:
            config = AsyncInferenceConfig(
                max_concurrent_invocations_per_instance=options.max_concurrent_invocations_per_instance
            )
            asynchronous = AsyncInvocations(endpoint, ObjectStore(options.async_folder), config, _log)
            stack.callback(asynchronous.close)
        _listen(Runtime(endpoint, asynchronous), listener, options.endpoint_name)
    return 0


def _started(plan: HostingPlan, workspace: Path, stack: ExitStack) -> Hosting:
    hosting = Hosting(plan, workspace, _log, echo=sys.stderr)
    seconds = hosting.start()
    _log(f"healthy after {seconds:.1f} s")

    def end() -> None:
        code, took = hosting.stop()
        _log(f"SIGTERM; the container ended with {code} after {took:.1f} s")

    stack.callback(end)
    return hosting


def _listen(runtime: Runtime, listener: socket.socket, name: str) -> None:
    """Serve until SIGINT or SIGTERM. A second signal interrupts the shutdown."""
    stopped = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    with listening(runtime, listener) as url:
        for number in signals:
            signal.signal(number, lambda *_: stopped.set())
        _log(f"InService: EndpointName {name!r} at endpoint_url {url}; Ctrl-C stops")
        stopped.wait()
        for number in signals:
            signal.signal(number, signal.default_int_handler)


def _transform(options: argparse.Namespace, workspace: Path) -> int:
    job = arguments.job(options)
    plan = replace(arguments.plan(options), injected=job.environ())
    with ExitStack() as stack:
        hosting = _started(plan, workspace, stack)
        parameters = resolve_parameters(job, fetch_execution_parameters(hosting.address))
        size = "chunks" if parameters.payload_bytes is None else f"at most {parameters.payload_bytes} bytes"
        _log(f"{parameters.strategy}, {size}, {parameters.concurrent} at a time")
        count = TransformRun(job, hosting.address, parameters, _log).run()
    _log(f"{count} files")
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
    for finding in contract.check_contract(hosting, choose):
        print(f"{finding.level.value:<6}{finding.subject:<10}{finding.line}", flush=True)
        findings.append(finding)
    code, last = verdict(findings)
    print(last.replace(fatal.MARK, "violates the contract: ").replace("can serve", "keeps the contract"))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
