"""Real inputs for the public models: rendered text, synthesised sound, bundled pictures, the files of this checkout.

Every function is deterministic and returns arrays by input name, one row for each example.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

from tests.zoo.public.packages import ROOT

Floats = NDArray[np.float32]
Inputs = dict[str, NDArray[np.generic]]

SENTENCES = (
    "The server answers before its deadline.",
    "A batch is formed when an instance can start it.",
    "How is rice cooked?",
    "The central bank raised its rates again, and share prices fell.",
    "Overloaded",
    "Measure first; then change one thing, and measure again on the same machine in turns with the old version.",
    "Ein kurzer Satz auf Deutsch.",
    "12.5 % of 3,200 requests were late by 40 ms",
)
WORDS = ("Slipway", "batch 32", "p99 = 4.2 ms", "queue_busy", "Invoice 2026-11", "Total: 1,280.50", "EXIT", "reading")


def text_line(text: str, height: int, width: int) -> Floats:
    """A line of dark text on white, RGB ``[height, width, 3]`` from 0 to 255."""
    picture = Image.new("RGB", (width, height), "white")
    font = ImageFont.load_default(size=height * 0.6)
    ImageDraw.Draw(picture).text((6, height * 0.12), text, fill=(20, 20, 40), font=font)
    return np.asarray(picture, np.float32)


def text_lines(name: str, count: int, width: int, *, turned: bool = False) -> Inputs:
    """Lines as a text recogniser takes them: ``[count, 3, 48, width]`` from -1 to 1.

    ``turned``: every second line is upside down.
    """
    texts = itertools.islice(itertools.cycle([*WORDS, *(sentence[:24] for sentence in SENTENCES)]), count)
    lines = np.stack([text_line(f"{text} {number}", 48, width) for number, text in enumerate(texts)])
    if turned:
        lines[1::2] = lines[1::2, ::-1, ::-1]
    return {name: ((lines / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2).copy()}


def text_pages(name: str, count: int, side: int) -> Inputs:
    """Pages with several lines as a text detector takes them: ``[count, 3, side, side]``, normalized."""
    pages = np.full((count, side, side, 3), 255, np.float32)
    for page, top in itertools.product(range(count), range(8, side - 40, 44)):
        text = SENTENCES[(page + top) % len(SENTENCES)][: 10 + 3 * page]
        pages[page, top : top + 30] = text_line(text, 30, side)
    mean, spread = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    return {name: ((pages / 255 - mean) / spread).transpose(0, 3, 1, 2).astype(np.float32)}


def pictures(count: int, side: int) -> Floats:
    """Different crops of scikit-learn's two photographs, ``[count, side, side, 3]`` from 0 to 255."""
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    random = np.random.default_rng(5)
    crops = []
    for number in range(count):
        photograph = photographs[number % 2]
        size = int(random.integers(160, 420))
        left = int(random.integers(0, photograph.width - size + 1))
        top = int(random.integers(0, photograph.height - size + 1))
        crop = photograph.crop((left, top, left + size, top + size)).resize((side, side))
        crops.append(np.asarray(crop, np.float32))
    return np.stack(crops)


def detector_pictures(name: str, count: int, side: int) -> Inputs:
    """Pictures as a detector takes them: ``[count, 3, side, side]`` from 0 to 1."""
    return {name: (pictures(count, side) / 255).transpose(0, 3, 1, 2).copy()}


def classifier_pictures(name: str, count: int, side: int) -> Inputs:
    """Pictures as the open_nsfw classifier takes them: BGR ``[count, side, side, 3]`` less the means of its data."""
    return {name: pictures(count, side)[..., ::-1] - np.array([104, 117, 123], np.float32)}


def speech(count: int, samples: int, rate: int = 16_000) -> Floats:
    """Windows ``[count, samples]`` of vowels (a pulse train through resonances), noise and silence in turns."""
    random = np.random.default_rng(7)
    time = np.arange(samples) / rate
    windows = np.zeros((count, samples), np.float32)
    for number in range(count):
        noise = random.normal(0, 0.003, samples)
        if number % 3 == 0:
            pitch, formants = random.uniform(90, 240), random.uniform((300, 900, 2_200), (800, 1_800, 3_000))
            harmonics = np.arange(1, 24)[:, None]
            gain = sum(1 / (1 + ((harmonics * pitch - formant) / 120) ** 2) for formant in formants)
            windows[number] = 0.2 * (gain * np.sin(2 * np.pi * harmonics * pitch * time)).sum(0) + noise
        elif number % 3 == 1:
            windows[number] = 20 * noise
        else:
            windows[number] = noise
    return windows


def speech_windows(count: int) -> Inputs:
    """Windows of a voice activity detector: context and 32 ms at 16 kHz, with an empty state."""
    state = np.zeros((2, count, 128), np.float32)
    return {"input": speech(count, 576), "state": state, "sr": np.array(16_000, np.int64)}


def music(name: str, count: int, samples: int) -> Inputs:
    """Two seconds of notes with harmonics each, ``[count, samples, 1]`` from -1 to 1."""
    random = np.random.default_rng(11)
    time = np.arange(samples) / 22_050
    windows = np.zeros((count, samples), np.float32)
    for window in windows:
        for note in random.integers(40, 88, 4):
            begin, pitch = random.uniform(0, 1.5), 440 * 2 ** ((int(note) - 69) / 12)
            envelope = np.where(time >= begin, np.exp(-3 * (time - begin)), 0)
            window += 0.15 * envelope * sum(np.sin(2 * np.pi * pitch * h * time) / h for h in range(1, 6))
    return {name: windows[:, :, None]}


def file_heads(name: str, count: int) -> Inputs:
    """Beginning and end of files of this checkout and its models, as ``[count, 2048]`` with 256 as padding."""
    rows = np.full((count, 2_048), 256, np.int32)
    for row, path in zip(rows, itertools.islice(_files(), count), strict=True):
        content = path.read_bytes()
        head, tail = content[:4_096].lstrip()[:1_024], content[-4_096:].rstrip()[-1_024:]
        row[: len(head)] = list(head)
        row[2_048 - len(tail) :] = list(tail)
    return {name: rows}


def _files() -> Iterator[Path]:
    kinds = ("*.py", "*.md", "*.toml", "*.yaml", "*.json", "*.yml", "*.ipynb", "*.txt", "*.html", "*.onnx")
    found = [sorted(path for path in ROOT.rglob(kind) if path.stat().st_size > 200) for kind in kinds]
    for group in itertools.zip_longest(*found):
        yield from (path for path in group if path is not None)


def ranged_rows(ranges: list[tuple[float, float]], count: int) -> Floats:
    """Rows of a table, each column uniform in its range, on a logarithmic scale where the range is wide."""
    random = np.random.default_rng(13)
    rows = np.empty((count, len(ranges)), np.float32)
    for column, (low, high) in enumerate(ranges):
        if low >= 0 and high > 1e3 * max(low, 1e-6):
            rows[:, column] = np.exp(random.uniform(np.log(max(low, 1e-6)), np.log(min(high, 1e9)), count))
        else:
            rows[:, column] = random.uniform(low, high, count)
    return rows
