"""The description: flags over the file over defaults, each with its origin; wrong values are refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from container.deploy import description
from container.deploy.defaults import Facts, complete, read_plan
from container.deploy.description import SETTINGS, Description, Given, from_file, from_flags
from container.deploy.errors import InvalidDescription
from container.deploy.model_source import find
from tests.fake_account import IMAGE, ROLE
from tests.integration import sample_models
from tests.integration.server_process import ROOT

PLAN = {
    "schema": "slipway.bench.plan/1",
    "capacity_per_s": 120.0,
    "safety_factor": 0.5,
    "binds": "load rises",
    "instances": 4,
    "target_per_instance": 3600,
    "price_per_hour": 0.1,
}


def given(**values: object) -> dict[str, Given]:
    return {name: Given(value, f"--{name}") for name, value in values.items()}


def test_flags_override_the_file_and_both_say_so(tmp_path: Path) -> None:
    file = tmp_path / "deploy.toml"
    file.write_text('artifact = "m"\ninstance-type = "ml.c5.large"\ninstance_count = 2\n[tags]\nteam = "a"\n')
    made = complete({**from_file(file), **from_flags({"instance_count": 3, "role": None})}, Facts())
    assert (made.instance_type, made.instance_count, made.tags) == ("ml.c5.large", 3, {"team": "a"})
    assert made.source("instance_type") == "deploy.toml: instance-type"
    assert made.source("instance_count") == "--instance-count"
    assert made.artifact == str(tmp_path / "m"), "a path is relative to the file that names it"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("instances = 2", "unknown key 'instances'"),
        ("instance_count = '2'", "whole number"),
        ("instance_count = true", "whole number"),
        ("instance_count = -1", "from 0 on"),
        ("instance_count = 1e99", "whole number"),
        ("multi_model = 1", "true or false"),
        ("subnets = 'a'", "list of texts"),
        ("tags = {a = 1}", "table of texts"),
        ("routing = 'FAST'", "choose LEAST_OUTSTANDING_REQUESTS or RANDOM"),
        ("price = nan", "number from 0 on"),
        ("name = 'a'\nname = 'b'", "is not TOML"),
        ("instance-count = 1\ninstance_count = 2", "twice"),
        ("a = ", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "deploy.toml"
    file.write_text(text)
    with pytest.raises(InvalidDescription, match=said):
        from_file(file)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "d.toml").write_bytes(content)
    with pytest.raises(InvalidDescription, match=r"d\.toml"):
        from_file(tmp_path / "d.toml")


def test_every_setting_has_an_origin_and_a_help() -> None:
    made = complete(given(artifact="m", image=IMAGE, role=ROLE), Facts())
    assert all(made.source(name) for name in SETTINGS)
    assert all(one.metadata["help"] and one.metadata["why"] for one in SETTINGS.values())


def test_defaults_come_from_the_manifest_and_the_image(tmp_path: Path) -> None:
    source = find(str(sample_models.fake(tmp_path / "m", name="My model_1!")), multi_model=False)
    made = complete(given(artifact="m", image=IMAGE, role=ROLE), Facts(source, environ={}))
    assert (made.name, made.region, made.instance_type) == ("My-model-1", "eu-central-1", "ml.c5.large")
    assert made.bucket == "sagemaker-eu-central-1-123456789012"
    assert made.source("name") == "manifest.json: name"
    assert made.startup_timeout is not None
    assert "files" in made.source("startup_timeout")


def test_defaults_come_from_bench_plan(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(PLAN))
    made = complete(given(artifact="m", max_instances=9), Facts(plan=read_plan(str(file))))
    assert (made.instance_count, made.min_instances, made.scaling_target, made.price) == (4, 4, 3600.0, 0.1)
    assert made.source("instance_count") == "bench plan: 120 requests/s each, used to 50%, because load rises"


@pytest.mark.parametrize("text", ["{}", "[]", "not JSON", '{"schema": "slipway.bench.plan/1"}'])
def test_another_file_is_no_plan(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InvalidDescription, match="--bench-plan"):
        read_plan(str(tmp_path / "plan.json"))


def test_a_required_setting_names_its_flag_and_its_key() -> None:
    with pytest.raises(InvalidDescription, match="--role is missing: pass it, or write role ="):
        Description(name="a").require("name", "role")


def test_the_kinds_of_settings_are_known() -> None:
    kinds = {name: description.kind(name) for name in ("serverless", "tags", "subnets", "price", "multi_model", "name")}
    assert list(kinds.values()) == [int, dict, tuple, float, bool, str]


def test_the_description_needs_no_boto3() -> None:
    program = "import sys, container.deploy.description, container.deploy.model_source; print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
