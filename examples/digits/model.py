"""The model of the demo: a small convolutional network for handwritten digits of 8 x 8 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class DigitsNet(nn.Module):
    """Two convolutions and two linear layers, about 150,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(1, 32, kernel_size=3, padding=1)
        self.wide = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.hidden = nn.Linear(64 * 4 * 4, 128)
        self.answer = nn.Linear(128, 10)

    def logits(self, image: Tensor) -> Tensor:
        """Scores before the softmax, float32 ``[batch, 10]``: the input of the training loss."""
        features = torch.relu(self.near(image))
        features = max_pool2d(torch.relu(self.wide(features)), kernel_size=2)
        scores: Tensor = self.answer(torch.relu(self.hidden(features.flatten(1))))
        return scores

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """``image``: float32 ``[batch, 1, 8, 8]``, ink from 0 to 1. Returns ``probabilities``: float32 ``[batch, 10]``.

        The key of the returned dict is the name of the served output; the parameter's name is that of the input.
        """
        return {"probabilities": torch.softmax(self.logits(image), dim=-1)}


def build() -> nn.Module:
    """The factory of ``python -m optimize examples.digits.model:build``, which loads the weights."""
    return DigitsNet()
