"""The locks: in step with the serve extra and the constraints, and every wheel with its hash."""

from __future__ import annotations

import re

import pytest

from container import lock
from container.lock import CannotLock, Lock, Pin

SPEC = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)$")


@pytest.mark.parametrize("one", lock.LOCKS, ids=lambda one: one.file)
def test_a_lock_holds_what_the_serve_extra_asks_for(one: Lock) -> None:
    locked = lock.read(one.path)
    for wanted in one.wanted():
        match = SPEC.match(wanted)
        assert match is not None, wanted
        assert locked.get(match[1].lower()) == match[2], f"{wanted} is not in {one.file}: make lock"


@pytest.mark.parametrize("one", lock.LOCKS, ids=lambda one: one.file)
def test_a_lock_agrees_with_the_constraints(one: Lock) -> None:
    constraints = lock.read(lock.ROOT / "constraints.txt")
    differing = {
        name: (version, constraints[name])
        for name, version in lock.read(one.path).items()
        if constraints.get(name, version) != version
    }
    assert differing == {}, "make lock"
    unknown = set(lock.read(one.path)) - set(constraints)
    assert all(name.startswith(("nvidia-", "onnxruntime-gpu")) for name in unknown)


@pytest.mark.parametrize("one", lock.LOCKS, ids=lambda one: one.file)
def test_every_distribution_has_a_hash_and_no_address(one: Lock) -> None:
    text = one.path.read_text("utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if not entry.startswith("#")]
    assert len(entries) > 10
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "://" not in text


def test_the_gpu_lock_differs_by_the_runtime_and_what_it_brings() -> None:
    cpu, gpu = (set(lock.read(one.path)) for one in lock.LOCKS)
    assert cpu - gpu == {"onnxruntime"}
    assert {"onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cublas"} <= gpu - cpu


def test_hashes_of_all_processors_are_kept_and_versions_must_agree() -> None:
    intel, arm = Pin("a", "1", "ff"), Pin("a", "1", "ee")
    assert lock.merge([[intel], [arm, Pin("b", "2", "aa")]]) == {("a", "1"): ["ee", "ff"], ("b", "2"): ["aa"]}
    with pytest.raises(CannotLock, match="a is 1 on one processor and 2 on another"):
        lock.merge([[intel], [Pin("a", "2", "dd")]])


def test_the_file_is_what_pip_reads() -> None:
    text = lock.as_text({("a", "1"): ["ee", "ff"]}, ("x86_64",))
    assert text.splitlines()[1:] == ["a==1 \\", "    --hash=sha256:ee \\", "    --hash=sha256:ff"]
