"""The demo's pieces that need no server: drawings, captions, ports, and the data of the training."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from examples.digits import demo, train


def test_drawings_stand_side_by_side() -> None:
    images = np.zeros((2, 8, 8), np.float32)
    images[0, 0, 0] = 1.0
    images[1, 7, 7] = 0.5
    lines = demo.draw(images)
    assert len(lines) == 8
    assert lines[0] == "@@"
    assert lines[7] == " " * 16 + "   " + " " * 14 + "=="


def test_captions_name_the_label_and_the_answer() -> None:
    probabilities = np.eye(10)[[3, 5]] * 0.9
    written, read = demo.captions(probabilities, np.array([3, 6]))
    assert written == "label: 3           label: 6"
    assert read == "read: 3 (90.0%)    read: 5 (90.0%)"


def test_a_used_port_is_skipped_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind((demo.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = demo.free_port(port)
    assert chosen > port
    assert capsys.readouterr().out.strip() == f"Port {port} is in use; using {chosen}."


def test_the_three_parts_share_no_image() -> None:
    parts = train.load(seed=7)
    assert [len(part.labels) for part in parts] == [1057, 200, 540]
    again = train.load(seed=7)
    assert all(np.array_equal(one.image, two.image) for one, two in zip(parts, again, strict=True))
    assert {part.image.shape[1:] for part in parts} == {(1, 8, 8)}
    assert all(part.image.min() == 0 and part.image.max() == 1 for part in parts)
