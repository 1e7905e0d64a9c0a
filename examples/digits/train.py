"""Trains the model of the demo on scikit-learn's handwritten digits: ``python -m examples.digits.train``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from examples.digits.model import DigitsNet
from server.system.cores import available_cores

CALIBRATION_ROWS, HELD_OUT_ROWS = 200, 540
BATCH = 64
PEAK_RATE = 3e-3
LEAST_ACCURACY = 0.975
"""All tested seeds reach 98 %; a lower accuracy indicates a faulty installation."""

FILES = ("weights.safetensors", "calibration.npz", "eval.npz")


@dataclass(frozen=True, slots=True)
class Digits:
    """``image``: float32 ``[rows, 1, 8, 8]``, ink from 0 to 1; ``labels``: int64 ``[rows]``, 0 to 9."""

    image: NDArray[np.float32]
    labels: NDArray[np.int64]

    def save(self, path: Path) -> None:
        arrays: dict[str, NDArray[Any]] = {"image": self.image, "labels": self.labels}
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle


def load(seed: int) -> tuple[Digits, Digits, Digits]:
    """The 1,797 images in three disjoint parts: training, calibration, held out."""
    bunch = load_digits()
    image = (bunch.images[:, None] / 16.0).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    cuts = (HELD_OUT_ROWS, HELD_OUT_ROWS + CALIBRATION_ROWS)
    held_out, calibration, training = (Digits(image[part], labels[part]) for part in np.split(order, cuts))
    return training, calibration, held_out


def train(data: Digits, epochs: int, seed: int, report: Callable[[int, float], None]) -> DigitsNet:
    """Train a new model; ``report`` gets (finished epochs, mean loss of the last) after each epoch."""
    torch.manual_seed(seed)
    model = DigitsNet()
    images, labels = torch.from_numpy(data.image), torch.from_numpy(data.labels)
    steps = -(-len(labels) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=epochs * steps)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(labels)).chunk(steps):
            optimizer.zero_grad()
            loss = cross_entropy(model.logits(images[rows]), labels[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        report(epoch + 1, total / len(labels))
    return model


def accuracy(model: DigitsNet, data: Digits) -> float:
    """The share of rows whose largest score is at the label."""
    model.eval()
    with torch.inference_mode():
        answers = model.logits(torch.from_numpy(data.image)).argmax(dim=-1).numpy()
    return float((answers == data.labels).mean())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.digits.train", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/digits-train"), help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=30, help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=7, help="seed of the split, the weights and the order (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(available_cores())

    training, calibration, held_out = load(options.seed)
    if not sys.stdout.isatty():
        print(f"Training on {len(training.labels):,} digits: {options.epochs} epochs, some seconds", flush=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("loss {task.fields[loss]}"))
    with Progress(*columns, TimeElapsedColumn(), disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(f"Training on {len(training.labels):,} digits", total=options.epochs, loss="")

        def report(epochs_done: int, loss: float) -> None:
            progress.update(task, completed=epochs_done, loss=f"{loss:.4f}")

        model = train(training, options.epochs, options.seed, report)
    reached = accuracy(model, held_out)

    options.output.mkdir(parents=True, exist_ok=True)
    calibration.save(options.output / "calibration.npz")
    held_out.save(options.output / "eval.npz")
    # The weights are written last: their presence means that the data is complete.
    save_file(model.state_dict(), options.output / "weights.safetensors")
    print(f"Trained for {options.epochs} epochs: {reached:.1%} of {len(held_out.labels)} held-out digits are correct.")
    print(f"Wrote {', '.join(sorted(FILES))} to {options.output}")
    return 0 if reached >= LEAST_ACCURACY or options.epochs < parser.get_default("epochs") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
