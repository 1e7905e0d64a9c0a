"""A task for the figures and tests of pruning: points around ten centres, a wide network, and its training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from server.tensors import Array

FEATURES, CLASSES, CLOUDS, SPREAD = 32, 10, 4, 1.2
"""Each class is several clouds, so that no linear model separates them; ``SPREAD`` makes a few points overlap."""

WIDTH = 512
TRAINING_ROWS, EPOCHS, BATCH = 8192, 4, 256


class Wide(nn.Module):
    """Points [batch, 32] to scores [batch, 10] through two layers that are wider than the task needs."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, width), nn.Linear(width, width)
        self.answer = nn.Linear(width, CLASSES)

    def forward(self, points: Tensor) -> Tensor:
        scores: Tensor = self.answer(torch.relu(self.second(torch.relu(self.first(points)))))
        return scores


def build() -> Wide:
    """The network as it is before training."""
    return Wide()


def rows(count: int, seed: int) -> tuple[Array, Array]:
    """``count`` points, float32, and their classes, int64; the centres are the same for every seed."""
    centres = np.random.default_rng(0).normal(size=(CLASSES, CLOUDS, FEATURES)) * 1.5
    rng = np.random.default_rng(seed)
    labels, clouds = rng.integers(0, CLASSES, count), rng.integers(0, CLOUDS, count)
    points = centres[labels, clouds] + SPREAD * rng.normal(size=(count, FEATURES))
    return points.astype(np.float32), labels.astype(np.int64)


def train(module: nn.Module) -> None:
    """Train ``module`` in place on rows of its own; also what a cut network is trained with again."""
    torch.set_num_threads(1)
    points, labels = (torch.from_numpy(array) for array in rows(TRAINING_ROWS, 1))
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels))
        for start in range(0, len(labels), BATCH):
            chosen = order[start : start + BATCH]
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(points[chosen]), labels[chosen]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
