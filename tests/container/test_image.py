"""Facts about the built image: what it says of itself, what is in it, and what is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from container import image as images
from container.docker import DockerFailed, docker
from tests.container.locks import CPU, versions

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]  # the first test may have to build the image


def once(image: str, *command: str) -> str:
    """Run one command in a fresh container and return what it printed."""
    return docker("run", "--rm", "--pull", "never", image, *command)


def test_size_is_within_the_limit(image: str) -> None:
    assert images.size_bytes(image) <= images.LIMIT_BYTES


def test_labels_name_the_version_and_what_sagemaker_may_ask_for(image: str) -> None:
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image))
    assert labels["org.opencontainers.image.title"] == "Slipway"
    assert labels["org.opencontainers.image.version"] == images.version()
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert labels["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"
    assert "com.amazonaws.sagemaker.capabilities.bidirectional-streaming" not in labels


def test_user_and_process_1_are_what_sagemaker_expects(image: str) -> None:
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    assert config.get("User", "") == ""
    assert config["Entrypoint"] == ["/opt/slipway/entrypoint"]
    assert config["ExposedPorts"] == {"8080/tcp": {}}


def test_other_commands_are_executed(image: str) -> None:
    assert once(image, "python", "-V").startswith("Python 3.")
    assert once(image, "sh", "-c", "echo $0 and $1", "one", "two") == "one and two"


def test_environment_is_complete_without_tools_to_change_it(image: str) -> None:
    with pytest.raises(DockerFailed, match="No module named pip"):
        once(image, "python", "-m", "pip", "--version")
    found = once(
        image, "sh", "-c", "for tool in cc gcc g++ ld make; do command -v $tool; done; ls -A /root/.cache; true"
    )
    assert found == ""


def test_only_the_server_is_in_the_image(image: str) -> None:
    assert once(image, "ls", "/opt").split() == ["slipway", "venv"]
    listed = once(image, "ls", "/opt/slipway").split()
    files = ["entrypoint", "healthcheck.py", "install-requirements", "sbom.cdx.json", "sbom.py", "serve.py", "server"]
    assert sorted(listed) == ["__pycache__", *files]
    unused = once(
        image, "sh", "-c", "cd /opt/venv/lib/python3*/site-packages && ls -d torch onnx pytest 2>/dev/null; true"
    )
    assert unused == ""


def test_every_user_can_read_the_application(image: str) -> None:
    assert once(image, "find", "/opt", "!", "-type", "l", "!", "-perm", "-o=r") == ""


def test_modules_are_compiled_ahead(image: str) -> None:
    script = "import pathlib, numpy, server; print(*(pathlib.Path(m.__cached__).is_file() for m in (numpy, server)))"
    assert once(image, "python", "-c", script) == "True True"


def test_the_bill_of_materials_lists_what_the_lock_names_and_the_base_brings(image: str) -> None:
    bill = json.loads(images.bill_of_materials(image))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["version"] == images.version()
    found = {one["purl"] for one in bill["components"] if "purl" in one}
    locked = versions(CPU)
    assert {f"pkg:pypi/{name}@{version}" for name, version in locked.items()} <= found
    assert any(one.startswith("pkg:deb/debian/libc6@") for one in found)


def test_requirements_are_added_by_an_image_built_from_this_one(image: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("sortedcontainers==2.4.0\n", encoding="ascii")
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\nCOPY requirements.txt /tmp/\nRUN slipway-install-requirements /tmp/requirements.txt\n", "ascii"
    )
    tag = f"{image.partition(':')[0]}:with-requirements-{os.getpid()}"
    try:
        docker("build", "--quiet", "--tag", tag, str(tmp_path), timeout_s=200)
        assert once(tag, "python", "-c", "import sortedcontainers as s; print(s.__version__)") == "2.4.0"
        assert "pkg:pypi/sortedcontainers@2.4.0" in images.bill_of_materials(tag)
    finally:
        docker("image", "rm", "--force", tag)


def test_requirements_that_would_change_the_server_stop_the_build(image: str) -> None:
    command = "echo numpy==1.26.4 > /tmp/r.txt && slipway-install-requirements /tmp/r.txt"
    with pytest.raises(DockerFailed, match=r"ResolutionImpossible|conflict"):
        docker("run", "--rm", "--pull", "never", image, "sh", "-c", command, timeout_s=120)
