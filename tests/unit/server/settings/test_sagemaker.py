"""What the server says about the platform's variables: each once, no values, and none is fatal."""

from __future__ import annotations

import logging

import pytest

from server.settings.options import Settings, aliases
from server.settings.reader import read, unreadable_aliases
from server.settings.sagemaker import NOT_SETTINGS, explain

# Every variable that the platform injects, or that users of its toolkits set: a reference of its own, not our table.
KNOWN = [
    "SAGEMAKER_BIND_TO_PORT",
    "SAGEMAKER_SAFE_PORT_RANGE",
    "SAGEMAKER_MULTI_MODEL",
    "SAGEMAKER_BATCH",
    "SAGEMAKER_MAX_PAYLOAD_IN_MB",
    "SAGEMAKER_BATCH_STRATEGY",
    "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS",
    "SAGEMAKER_PROGRAM",
    "SAGEMAKER_SUBMIT_DIRECTORY",
    "SAGEMAKER_BASE_DIR",
    "SAGEMAKER_CONTAINER_LOG_LEVEL",
    "SAGEMAKER_REGION",
    "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
    "SAGEMAKER_MODEL_SERVER_WORKERS",
    "SAGEMAKER_MODEL_SERVER_TIMEOUT",
    "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
    "SAGEMAKER_STARTUP_TIMEOUT",
    "SAGEMAKER_MODEL_SERVER_VMARGS",
    "SAGEMAKER_HANDLER",
    "CA_REPOSITORY_ARN",
    "SAGEMAKER_TS_BATCH_SIZE",
    "SAGEMAKER_TS_MAX_BATCH_DELAY",
    "SAGEMAKER_TS_MIN_WORKERS",
    "SAGEMAKER_TS_MAX_WORKERS",
    "SAGEMAKER_TS_RESPONSE_TIMEOUT",
    "SAGEMAKER_TFS_ENABLE_BATCHING",
    "SAGEMAKER_TFS_MAX_BATCH_SIZE",
    "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS",
    "SAGEMAKER_TFS_NGINX_LOGLEVEL",
    "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME",
    "SAGEMAKER_TRITON_LOG_LEVEL",
    "SAGEMAKER_TRITON_LOG_VERBOSE",
    "SAGEMAKER_TRITON_THREAD_COUNT",
]


def said(environ: dict[str, str], port: int = 8080) -> list[tuple[int, str]]:
    return list(explain(environ, aliases(), port))


def test_an_unreadable_variable_is_explained_with_its_flag_and_without_its_value() -> None:
    environ = {"SAGEMAKER_MODEL_SERVER_WORKERS": "a-secret", "SAGEMAKER_REGION": "x"}
    lines = list(explain(environ, aliases(), 8080, unreadable_aliases(environ)))
    assert [level for level, _ in lines] == [logging.WARNING, logging.INFO]
    assert "SAGEMAKER_MODEL_SERVER_WORKERS" in lines[0][1]
    assert "--instances" in lines[0][1]
    assert "a-secret" not in lines[0][1]


def test_workers_may_be_left_to_the_server() -> None:
    for name in ("SAGEMAKER_MODEL_SERVER_WORKERS", "SAGEMAKER_TS_MAX_WORKERS"):
        assert read([], {name: "auto"}) == Settings()
        assert unreadable_aliases({name: "AUTO"}) == []


def test_nothing_is_said_where_nothing_is_set() -> None:
    assert said({"PATH": "/bin", "SLIPWAY_PORT": "1"}) == []


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_variable_is_honoured_or_explained_in_one_line(name: str) -> None:
    ((level, line),) = said({name: "1-9999" if name == "SAGEMAKER_SAFE_PORT_RANGE" else "a-secret"})
    assert level == logging.INFO
    assert name in line
    assert "a-secret" not in line


def test_a_variable_is_a_setting_or_a_note_and_not_both() -> None:
    assert not set(aliases()) & set(NOT_SETTINGS)


def test_all_that_is_known_shares_one_line_and_all_that_is_not_another() -> None:
    lines = said(
        {"SAGEMAKER_REGION": "x", "SAGEMAKER_BATCH": "1", "SAGEMAKER_NEW": "secret", "SAGEMAKER_OTHER": "secret"}
    )
    assert [level for level, _ in lines] == [logging.INFO, logging.DEBUG]
    assert lines[1][1].endswith("SAGEMAKER_NEW, SAGEMAKER_OTHER")
    assert "secret" not in lines[1][1]


def test_what_is_not_known_is_not_fatal() -> None:
    assert read([], {"SAGEMAKER_NEW": "x", **dict.fromkeys(NOT_SETTINGS, "x")}) == Settings()


@pytest.mark.parametrize(("port", "warned"), [(8000, False), (8500, False), (7999, True), (8501, True), (0, False)])
def test_a_port_outside_of_the_safe_range_is_warned_of(port: int, warned: bool) -> None:
    levels = [level for level, _ in said({"SAGEMAKER_SAFE_PORT_RANGE": "8000-8500"}, port)]
    assert (logging.WARNING in levels) == warned


@pytest.mark.parametrize("text", ["0", "false", "no"])
def test_a_batch_variable_that_is_off_changes_nothing(text: str) -> None:
    assert read([], {"SAGEMAKER_BATCH": text}) == Settings()


def test_our_own_setting_wins_over_the_batch_variable() -> None:
    assert read(["--max-queue-ms", "5"], {"SAGEMAKER_BATCH": "true"}).max_queue_ms == 5.0
