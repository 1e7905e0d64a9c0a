"""Two well-known networks, written out for the figures: MiniLM-L6 with pooling, and ResNet-50."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

WIDTH, HEADS, INNER, LAYERS, VOCABULARY, LONGEST = 384, 12, 1536, 6, 30_522, 512


class Layer(nn.Module):
    """One transformer layer of BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.mix = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.attended = nn.LayerNorm(WIDTH, eps=1e-12)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.done = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` [batch, length, 384], ``mask`` [batch, 1, 1, length] to be added to the scores."""
        batch, length, width = x.shape

        def heads(y: Tensor) -> Tensor:
            return y.view(batch, length, HEADS, width // HEADS).transpose(1, 2)

        query, key, value = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // HEADS) + mask
        context = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, width)
        x = self.attended(x + self.mix(context))
        return torch.as_tensor(self.done(x + self.down(nn.functional.gelu(self.up(x)))))


class MiniLM(nn.Module):
    """Tokens to one normalised vector: the mean over the tokens that count."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.kinds = (nn.Embedding(size, WIDTH) for size in (VOCABULARY, LONGEST, 2))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        length = input_ids.shape[1]
        x = self.norm(self.words(input_ids) + self.places.weight[:length] + self.kinds.weight[0])
        mask = (1 - attention_mask.float())[:, None, None, :] * -1e4
        for layer in self.layers:
            x = layer(x, mask)
        counts = attention_mask.float().unsqueeze(-1)
        pooled = (x * counts).sum(1) / counts.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(pooled, dim=1)


def minilm(weights: Path | None) -> MiniLM:
    """MiniLM-L6 with random weights, or with those of a Hugging Face safetensors file."""
    model = MiniLM()
    if weights is not None:
        from safetensors.torch import load_file

        stored = load_file(weights)
        model.load_state_dict({ours: stored[theirs] for ours, theirs in _names().items()}, strict=True)
    return model


def _names() -> dict[str, str]:
    """Our names of parameters to those of Hugging Face."""
    modules = {
        "words": "embeddings.word_embeddings",
        "places": "embeddings.position_embeddings",
        "kinds": "embeddings.token_type_embeddings",
    }
    names = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in modules.items()}
    inner = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "mix": "attention.output.dense",
        "attended": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "done": "output.LayerNorm",
    }
    pairs = {"norm": "embeddings.LayerNorm"} | {
        f"layers.{at}.{ours}": f"encoder.layer.{at}.{theirs}" for at in range(LAYERS) for ours, theirs in inner.items()
    }
    return names | {
        f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in pairs.items() for kind in ("weight", "bias")
    }


class Bottleneck(nn.Module):
    """The block of ResNet-50: 1x1, 3x3 and 1x1 convolutions around a shortcut."""

    def __init__(self, wide: int, narrow: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(wide, narrow, 1, 1), nn.ReLU(),
            *_convolution(narrow, narrow, 3, stride), nn.ReLU(),
            *_convolution(narrow, 4 * narrow, 1, 1),
        )  # fmt: skip
        same = stride == 1 and wide == 4 * narrow
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(wide, 4 * narrow, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet50(nn.Module):
    """Images [batch, 3, 224, 224] to scores [batch, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [*_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        wide = 64
        for stage, depth in enumerate((3, 4, 6, 3)):
            for at in range(depth):
                blocks.append(Bottleneck(wide, 64 << stage, 2 if stage and not at else 1))
                wide = 256 << stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(wide, 1000)

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.head(self.blocks(image).mean((2, 3)))
        return scores


def resnet50() -> ResNet50:
    """ResNet-50 with random weights."""
    return ResNet50()


def _convolution(wide: int, narrow: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(wide, narrow, size, stride, size // 2, bias=False), nn.BatchNorm2d(narrow)
