"""Settings: every source of every option, their order, and the refusal of whatever is not known or not possible."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.errors import BadSetting
from server.settings.documentation import as_markdown
from server.settings.options import FIELDS, LOG_LEVELS, Settings, aliases, flag, is_switch, variable
from server.settings.reader import from_process, read, unreadable_aliases

ROOT = Path(__file__).parents[4]


def other(name: str) -> Any:
    """A possible value of an option that is not its default."""
    default: Any = FIELDS[name].default
    if is_switch(default):
        return not default
    choices = FIELDS[name].metadata["choices"]
    if choices:
        return next(choice for choice in choices if choice != default)
    return "elsewhere" if isinstance(default, str) else default + 1


def toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def write_toml(path: Path, text: str) -> str:
    file = path / "slipway.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


ALIASES: list[tuple[str, str, str, Any]] = [
    ("SAGEMAKER_BIND_TO_PORT", "9000", "port", 9000),
    ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6", "max_body_mb", 6.291456),
    ("SAGEMAKER_TFS_MAX_BATCH_SIZE", "8", "max_batch_size", 8),
    ("SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS", "250", "max_queue_delay_us", 250),
    ("SAGEMAKER_TS_RESPONSE_TIMEOUT", "90", "deadline_ms", 90_000.0),
    ("SAGEMAKER_TS_MAX_WORKERS", "2", "instances", 2),
    ("SAGEMAKER_TS_MIN_WORKERS", "2", "instances", 2),
    ("SAGEMAKER_MULTI_MODEL", "true", "multi_model", True),
    ("SAGEMAKER_ENABLE_STATEFUL_SESSIONS", "True", "sessions", True),
    ("SAGEMAKER_SESSIONS_EXPIRATION", "60", "session_s", 60.0),
    ("SAGEMAKER_BATCH", "True", "max_queue_ms", 600_000.0),
    ("SAGEMAKER_BATCH_STRATEGY", "SingleRecord", "batch_strategy", "SINGLE_RECORD"),
    ("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "4", "max_concurrent_transforms", 4),
    ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/csv", "default_accept", "text/csv"),
    ("SAGEMAKER_TS_BATCH_SIZE", "16", "max_batch_size", 16),
    ("SAGEMAKER_TS_MAX_BATCH_DELAY", "2.5", "max_queue_delay_us", 2500),
    ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "1.5", "deadline_ms", 1500.0),
    ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "2", "deadline_ms", 2000.0),
    ("SAGEMAKER_MODEL_SERVER_WORKERS", "3", "instances", 3),
    ("SAGEMAKER_CONTAINER_LOG_LEVEL", "10", "log_level", "debug"),
    ("SAGEMAKER_TRITON_LOG_LEVEL", "ERROR", "log_level", "error"),
    ("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", "resnet", "default_model", "resnet"),
    ("SAGEMAKER_PROGRAM", "train", "script_program", "train.py"),
    ("SAGEMAKER_SUBMIT_DIRECTORY", "file:///opt/ml/model/code", "script_directory", "/opt/ml/model/code"),
    ("SAGEMAKER_SUBMIT_DIRECTORY", "s3://bucket/source.tar.gz", "script_directory", ""),
    ("SAGEMAKER_HANDLER", "service:handle", "script_handler", "service:handle"),
]


def test_without_any_source_every_option_has_its_default() -> None:
    assert read([], {}) == Settings()


@pytest.mark.parametrize("name", FIELDS)
def test_a_flag_sets_every_option(name: str) -> None:
    value = other(name)
    switch = {True: [flag(name)], False: ["--no-" + flag(name)[2:]]}
    argv = switch[value] if isinstance(value, bool) else [flag(name), str(value)]
    assert read(argv, {}) == dataclasses.replace(Settings(), **{name: value})


@pytest.mark.parametrize("name", [name for name, one in FIELDS.items() if not is_switch(one.default)])
def test_a_flag_and_its_value_may_be_one_word(name: str) -> None:
    assert getattr(read([f"{flag(name)}={other(name)}"], {}), name) == other(name)


@pytest.mark.parametrize("name", FIELDS)
def test_a_variable_sets_every_option(name: str) -> None:
    value = other(name)
    assert read([], {variable(name): str(value)}) == dataclasses.replace(Settings(), **{name: value})


@pytest.mark.parametrize("name", FIELDS)
def test_the_file_sets_every_option(name: str, tmp_path: Path) -> None:
    value = other(name)
    file = write_toml(tmp_path, f"{name} = {toml(value)}\n")
    assert read(["--config", file], {}) == dataclasses.replace(Settings(), **{name: value})


def test_the_base_directory_holds_for_the_model_and_for_code_outside_of_it() -> None:
    settings = read([], {"SAGEMAKER_BASE_DIR": "/mnt/ml/"})
    assert (settings.model, settings.script_directory) == ("/mnt/ml/model", "/mnt/ml/code")
    submitted = {"SAGEMAKER_BASE_DIR": "/mnt/ml/", "SAGEMAKER_SUBMIT_DIRECTORY": "/my/code"}
    assert read([], submitted).script_directory == "/my/code"
    assert aliases()["SAGEMAKER_BASE_DIR"][1] == "--model"


@pytest.mark.parametrize(("alias", "text", "name", "value"), ALIASES)
def test_a_variable_of_sagemaker_sets_its_option(alias: str, text: str, name: str, value: Any) -> None:
    assert read([], {alias: text}) == dataclasses.replace(Settings(), **{name: value})


def test_the_table_above_names_every_alias() -> None:
    declared = {(alias.name, one.name) for one in FIELDS.values() for alias in one.metadata["aliases"]}
    base = {
        ("SAGEMAKER_BASE_DIR", "model"),
        ("SAGEMAKER_BASE_DIR", "script_directory"),
    }  # two at once: a test of its own
    assert declared == {(alias, name) for alias, _, name, _ in ALIASES} | base


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("0", "debug"),
        ("10", "debug"),
        ("20", "info"),
        ("30", "warning"),
        ("40", "error"),
        ("50", "error"),
        ("INFO", "info"),
        ("warn", "warning"),
        ("CRITICAL", "error"),
        ("NOTSET", "debug"),
    ],
)
def test_sagemakers_log_level_is_a_number_or_name_of_pythons_logging(text: str, level: str) -> None:
    assert read([], {"SAGEMAKER_CONTAINER_LOG_LEVEL": text}).log_level == level


def test_the_timeout_whose_name_has_its_unit_wins_over_the_other() -> None:
    environ = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "60", "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "5"}
    assert read([], environ).deadline_ms == 5000.0
    assert read([], dict(reversed(environ.items()))).deadline_ms == 5000.0


def test_an_empty_alias_counts_as_not_set() -> None:
    assert read([], {"SAGEMAKER_MODEL_SERVER_WORKERS": ""}) == Settings()


def test_sources_win_over_each_other_in_the_order_of_the_docstring(tmp_path: Path) -> None:
    argv = ["--port", "1"]
    environ = {"SLIPWAY_PORT": "2", "SAGEMAKER_BIND_TO_PORT": "3", "SLIPWAY_CONFIG": write_toml(tmp_path, "port = 4")}
    assert read(argv, environ).port == 1
    assert read([], environ).port == 2
    del environ["SLIPWAY_PORT"]
    assert read([], environ).port == 3
    del environ["SAGEMAKER_BIND_TO_PORT"]
    assert read([], environ).port == 4
    del environ["SLIPWAY_CONFIG"]
    assert read([], environ).port == 8080


def test_sources_complement_each_other(tmp_path: Path) -> None:
    file = write_toml(tmp_path, "backlog = 7\n")
    merged = read(["--config", file, "--port", "1"], {"SLIPWAY_NAME": "digits", "SAGEMAKER_TS_BATCH_SIZE": "4"})
    assert merged == dataclasses.replace(Settings(), backlog=7, port=1, name="digits", max_batch_size=4)


def test_a_weak_source_is_checked_even_where_a_strong_one_wins() -> None:
    with pytest.raises(BadSetting, match="SLIPWAY_PORT must be a whole number"):
        read(["--port", "1"], {"SLIPWAY_PORT": "many"})


def test_the_file_may_be_named_by_flag_and_by_variable_and_the_flag_wins(tmp_path: Path) -> None:
    file = write_toml(tmp_path, "port = 5\n")
    assert read(["--config", file], {"SLIPWAY_CONFIG": "/nowhere.toml"}).port == 5
    assert read([], {"SLIPWAY_CONFIG": file}).port == 5


@pytest.mark.parametrize("spelling", ["1", "true", "True", "YES", "on"])
def test_words_for_true(spelling: str) -> None:
    assert read([], {"SLIPWAY_ACCESS_LOG": spelling}).access_log is True


@pytest.mark.parametrize("spelling", ["0", "false", "False", "NO", "off"])
def test_words_for_false(spelling: str) -> None:
    assert read([], {"SLIPWAY_VERIFY_DIGESTS": spelling}).verify_digests is False


@pytest.mark.parametrize("argv", [["serve"], ["serve", "--port", "1"], ["--port", "1", "serve"]])
def test_the_word_that_sagemaker_passes_is_accepted_and_changes_nothing(argv: list[str]) -> None:
    assert read(argv, {}) == read([word for word in argv if word != "serve"], {})


def test_another_command_is_refused() -> None:
    with pytest.raises(BadSetting, match="train"):
        read(["train"], {})


@pytest.mark.parametrize(
    ("argv", "environ", "file", "unknown", "nearest"),
    [
        pytest.param(["--prot", "1"], {}, "", "--prot", "--port", id="flag"),
        pytest.param(["--prot=1"], {}, "", "--prot", "--port", id="flag and value in one word"),
        pytest.param(["--max-batch", "4"], {}, "", "--max-batch", "--max-batch-size", id="a flag is not abbreviated"),
        pytest.param(["--no-access-logs"], {}, "", "--no-access-logs", "--no-access-log", id="negated flag"),
        pytest.param([], {"SLIPWAY_PROT": "1"}, "", "SLIPWAY_PROT", "SLIPWAY_PORT", id="variable"),
        pytest.param([], {"SLIPWAY_CONFG": "1"}, "", "SLIPWAY_CONFG", "SLIPWAY_CONFIG", id="variable of the file"),
        pytest.param([], {}, "prot = 1", "prot", "port", id="key of the file"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(
    argv: list[str], environ: dict[str, str], file: str, unknown: str, nearest: str, tmp_path: Path
) -> None:
    config = ["--config", write_toml(tmp_path, file)] if file else []
    with pytest.raises(BadSetting) as caught:
        read([*argv, *config], environ)
    assert f" {unknown}; the nearest is {nearest};" in str(caught.value)


def test_a_name_that_is_near_to_nothing_is_refused_without_a_guess() -> None:
    with pytest.raises(BadSetting, match=r"^unknown option --zzzz; see --help for all$"):
        read(["--zzzz"], {})


def test_variables_of_others_are_not_looked_at() -> None:
    assert read([], {"PORT": "1", "SAGEMAKER_REGION": "eu-west-1", "slipway_port": "2"}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("port", "eighty", "must be a whole number, got 'eighty'"),
        ("port", "80.5", "must be a whole number, got '80.5'"),
        ("port", "", "must be a whole number, got ''"),
        ("port", "-1", "must be at least 0, got '-1'"),
        ("port", "65536", "must be at most 65535, got '65536'"),
        ("max_batch_size", "-2", "must be at least 0, got '-2'"),
        ("backlog", "0", "must be at least 1, got '0'"),
        ("read_timeout_s", "0", "must be at least 0.1, got '0'"),
        ("max_queue_ms", "soon", "must be a number, got 'soon'"),
        ("max_queue_ms", "nan", "must be a number, got 'nan'"),
        ("deadline_ms", "inf", "must be a number, got 'inf'"),
        ("max_body_mb", "1e999", "must be a number, got '1e999'"),
        ("log_level", "loud", f"must be one of {', '.join(LOG_LEVELS)}, got 'loud'"),
        ("access_log", "maybe", "must be true or false, got 'maybe'"),
    ],
)
def test_an_impossible_text_is_refused_saying_where_and_what(name: str, text: str, reason: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read([], {variable(name): text})
    assert str(caught.value) == f"{variable(name)} {reason}"
    if name != "access_log":
        with pytest.raises(BadSetting) as caught:
            read([f"{flag(name)}={text}"], {})
        assert str(caught.value) == f"{flag(name)} {reason}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("port = 'eighty'", "must be a whole number"),
        ("port = 80.5", "must be a whole number"),
        ("port = true", "must be a whole number"),
        ("port = [80]", "must be a whole number"),
        ("port = {tcp = 80}", "must be a whole number"),
        ("port = 2024-01-01", "must be a whole number"),
        ("port = inf", "must be a whole number"),
        ("deadline_ms = inf", "must be a number"),
        ("deadline_ms = nan", "must be a number"),
        pytest.param("deadline_ms = 1" + "0" * 400, "must be a number", id="a whole number beyond every float"),
        ("deadline_ms = 10:00:00", "must be a number"),
        ("model = ['a', 'b']", "must be text"),
        ("access_log = 2", "must be true or false"),
        ("log_level = 'loud'", "must be one of"),
    ],
)
def test_an_impossible_value_in_the_file_is_refused_saying_where(line: str, reason: str, tmp_path: Path) -> None:
    file = write_toml(tmp_path, line)
    with pytest.raises(BadSetting) as caught:
        read(["--config", file], {})
    assert str(caught.value).startswith(f"{line.split()[0]} in {file} {reason}")


def test_a_whole_number_in_the_file_may_be_written_as_a_float_and_the_other_way(tmp_path: Path) -> None:
    merged = read(["--config", write_toml(tmp_path, "port = 9000.0\ndeadline_ms = 5\n")], {})
    assert (merged.port, type(merged.port)) == (9000, int)
    assert (merged.deadline_ms, type(merged.deadline_ms)) == (5.0, float)


@pytest.mark.parametrize(
    ("alias", "text"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "https"),
        ("SAGEMAKER_BIND_TO_PORT", "-1"),
        ("SAGEMAKER_TS_MAX_BATCH_DELAY", "inf"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "inf"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "many"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "LOUD"),
        ("SAGEMAKER_BATCH_STRATEGY", "all"),
    ],
)
def test_an_impossible_alias_is_ignored_with_a_warning_and_never_fatal(alias: str, text: str) -> None:
    assert read([], {alias: text}) == Settings()
    assert unreadable_aliases({alias: text}) == [alias]
    assert unreadable_aliases({alias: ""}) == []


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"cannot read --config /nowhere\.toml: No such file"):
        read(["--config", "/nowhere.toml"], {})


@pytest.mark.parametrize("content", [b"port 80\n", b"port = \xff\n"])
def test_a_file_that_is_not_toml_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "slipway.toml"
    file.write_bytes(content)
    with pytest.raises(BadSetting, match="is not TOML"):
        read(["--config", str(file)], {})


def test_a_flag_without_its_value_is_refused() -> None:
    with pytest.raises(BadSetting, match="--port"):
        read(["--port"], {})


def test_help_exits_with_0_and_mentions_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        from_process(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, one in FIELDS.items():
        assert flag(name) in text
        assert one.metadata["text"] in text, name
    assert "--config" in text


def test_a_bad_setting_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_PROT", "80")
    with pytest.raises(SystemExit) as caught:
        from_process([])
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert captured.err == (
        "slipway: cannot serve: unknown environment variable SLIPWAY_PROT; the nearest is SLIPWAY_PORT; "
        "see --help for all\n"
    )


def test_without_arguments_those_of_the_process_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["serve.py", "--port", "9001"])
    assert from_process().port == 9001


def test_settings_are_plain_data_that_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_the_page_mentions_every_option_with_its_variable_and_aliases() -> None:
    page = as_markdown()
    sections = [line for line in page.splitlines() if line.startswith("## ")]
    assert len(sections) == len(set(sections))
    for name, one in FIELDS.items():
        assert f"| `{flag(name)}` `{variable(name)}`" in page
        for alias in one.metadata["aliases"]:
            assert f"`{alias.name}`" in page


def test_the_page_in_the_docs_is_the_one_that_the_code_makes() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert page == as_markdown(), "run `make docs`"
    made = subprocess.run(
        [sys.executable, "-m", "server.settings.documentation"], cwd=ROOT, capture_output=True, check=True
    )
    assert made.stdout.decode() == page
