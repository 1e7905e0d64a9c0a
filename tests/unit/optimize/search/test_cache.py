"""What is remembered: by all that went into it, and only while the files that it had read are as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from optimize.passes import PassRecord
from optimize.search.cache import SearchCache
from server.artifact import digest


class Maker:
    """Makes a record that has read ``files``, and counts how often it is asked."""

    def __init__(self, *files: Path) -> None:
        self.files = files
        self.asked = 0

    def __call__(self, directory: Path) -> PassRecord:
        self.asked += 1
        (directory / "model.onnx").write_text(str(self.asked))
        return PassRecord(directory / "model.onnx", {}, files={str(file): digest(file) for file in self.files})


def test_training_data_that_changed_or_went_make_it_anew(tmp_path: Path) -> None:
    data = tmp_path / "training.npy"
    data.write_bytes(b"first")
    memory, make = SearchCache(tmp_path / "memory"), Maker(data)
    first = memory.record({"train": "a"}, make)
    assert memory.record({"train": "a"}, make) == first
    assert make.asked == 1
    data.write_bytes(b"other")
    assert memory.record({"train": "a"}, make).path.read_text() == "2"
    data.unlink()
    make.files = ()
    assert memory.record({"train": "a"}, make).path.read_text() == "3"


def test_other_ingredients_are_another_record(tmp_path: Path) -> None:
    memory, make = SearchCache(tmp_path), Maker()
    one, two = memory.record({"seed": 0}, make), memory.record({"seed": 1}, make)
    assert one.path != two.path
    assert memory.record({"seed": 0}, make) == one


def test_an_interrupted_one_is_made_again(tmp_path: Path) -> None:
    memory, make = SearchCache(tmp_path), Maker()
    record = memory.record({"seed": 0}, make)
    (record.path.parent / "record.json").unlink()
    assert memory.record({"seed": 0}, make).path.read_text() == "2"


def test_arrays_are_kept_by_their_ingredients(tmp_path: Path) -> None:
    memory = SearchCache(tmp_path)
    first = memory.arrays({"rows": "a"}, lambda: {"y": np.arange(3)})
    assert np.array_equal(memory.arrays({"rows": "a"}, dict)["y"], first["y"])
    assert memory.arrays({"rows": "b"}, lambda: {"y": np.zeros(1)})["y"].shape == (1,)
