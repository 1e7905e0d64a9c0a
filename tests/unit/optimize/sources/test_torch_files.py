"""Torch models that are files, and free axes besides the batch: trained networks of three families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from optimize.errors import BadInput, ExportFailed, NotProven
from optimize.evaluation.dataset import Dataset
from optimize.sandbox import parent
from optimize.sources import KINDS, SourceSpec, baseline, torch_export, torch_module, torchscript
from optimize.sources.axes import Axis
from optimize.sources.baseline import Proof

Prove = Callable[..., Proof]

STEPS = (Axis("x", 1, "steps"),)
TOKENS = (Axis("ids", 1, "tokens"), Axis("mask", 1, "tokens"))


class Recurrent(nn.Module):
    """Reads an image of digits line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(8, 16, batch_first=True)
        self.answer = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.memory(x)
        answer: Tensor = self.answer(states[:, -1])
        return answer


class Transformer(nn.Module):
    """Counts over token ids: an encoder of one layer with a mask and mean pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.answer = nn.Linear(16, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        states = self.encoder(self.embedding(ids), src_key_padding_mask=mask == 0)
        weights = mask.unsqueeze(-1).float()
        return {"embedding": self.answer((states * weights).sum(1) / weights.sum(1))}


def trained(module: nn.Module, answers: Tensor, **inputs: Tensor) -> nn.Module:
    """Ten steps: far from good, but with weights that data has moved, as trained ones are."""
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(10):
        result = module(**inputs)
        logits = result if isinstance(result, Tensor) else next(iter(result.values()))
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, answers).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, Tensor]:
    images, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    lines = (images[:64].reshape(64, 8, 8) / 16).astype(np.float32)
    return Dataset({"x": lines}, None, ""), torch.from_numpy(labels[:64])


@pytest.fixture(scope="module")
def recurrent(digits: tuple[Dataset, Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return trained(Recurrent(), digits[1], x=torch.from_numpy(digits[0].inputs["x"].copy()))


@pytest.mark.slow
def test_a_recurrent_network_is_proven_at_several_lengths(
    recurrent: nn.Module, digits: tuple[Dataset, Tensor], prove: Prove
) -> None:
    request = SourceSpec("m:f", axes=STEPS)
    proof = prove(torch_module.reference_model(request, recurrent, ("x",), digits[0], {}), digits[0])
    assert proof.lengths == (("steps", (2, 4, 8)),)
    assert proof.worst < 1e-5


@pytest.mark.slow
def test_a_transformer_is_proven_at_several_lengths(prove: Prove) -> None:
    """Its output is called as its embedding layer, and its attention knows a mask."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    ids, mask = rng.integers(0, 20, (32, 12)), np.ones((32, 12), np.int64)
    mask[::3, 2:] = 0
    tensors = {"ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}
    module = trained(Transformer(), torch.from_numpy((ids[:, 0] > 9).astype(np.int64)), **tensors)
    data = Dataset({"ids": ids, "mask": mask}, None, "")
    request = SourceSpec("m:f", axes=TOKENS)
    proof = prove(torch_module.reference_model(request, module, ("ids", "mask"), data, {}), data)
    assert proof.lengths == (("tokens", (3, 6, 12)),)
    assert proof.cosine > 0.99999


@pytest.mark.slow
def test_a_length_that_the_model_fixes_is_explained(prove: Prove, digits: tuple[Dataset, Tensor]) -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.ones(8, 1)

    source = torch_module.reference_model(SourceSpec("m:f"), Fixed(), ("x",), digits[0], {})
    assert prove(source, digits[0]).worst == 0
    free = torch_module.reference_model(SourceSpec("m:f", axes=STEPS), Fixed(), ("x",), digits[0], {})
    with pytest.raises((BadInput, ExportFailed, NotProven), match=r"steps|8"):
        prove(free, digits[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch warns about itself while it saves
def test_an_exported_program(
    recurrent: nn.Module, digits: tuple[Dataset, Tensor], tmp_path: Path, prove: Prove
) -> None:
    path = tmp_path / "m.pt2"
    rows = torch.from_numpy(digits[0].batch(2)["x"])
    torch.export.save(
        torch.export.export(recurrent, (rows,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}}), path
    )
    source = torch_export.load(SourceSpec(str(path), outputs=("digit",)), digits[0])
    assert (source.inputs, source.outputs) == (("x",), ("digit",))
    assert prove(source, digits[0]).worst < 1e-5


def test_a_program_that_was_exported_for_one_size_says_how_to_export_it(tmp_path: Path) -> None:
    data = Dataset({"input": np.zeros((8, 3), np.float32)}, None, "")
    torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.zeros(2, 3),)), tmp_path / "m.pt2")
    source = torch_export.load(SourceSpec(str(tmp_path / "m.pt2")), data)
    with pytest.raises(BadInput, match=r"does not run on 1 row.*dynamic_shapes"):
        source.run(data.batch(1))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
def test_a_script(recurrent: nn.Module, digits: tuple[Dataset, Tensor], tmp_path: Path, prove: Prove) -> None:
    path = tmp_path / "m.pt"
    torch.jit.script(recurrent).save(str(path))  # type: ignore[no-untyped-call]
    proof = prove(torchscript.load(SourceSpec(str(path), axes=STEPS), digits[0]), digits[0])
    assert proof.exporter == "torchscript"
    assert proof.lengths == (("steps", (2, 4, 8)),)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_program_is_opened_in_a_process_that_reads_tensors_only(tmp_path: Path) -> None:
    """As the command line does it: .pt2 archives have pickles inside, which torch would fall back to."""
    data = Dataset({"input": np.random.default_rng(0).random((8, 3), dtype=np.float32)}, None, "")
    path, directory = tmp_path / "m.pt2", tmp_path / "work"
    directory.mkdir()
    free = {"input": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.zeros(2, 3),), dynamic_shapes=free), path)
    request = SourceSpec(str(path))
    found = parent.convert(KINDS["torch_export"], request, data, (1, 2), directory, parent.SandboxLimits())
    assert baseline.write(found, tmp_path / "r.onnx").worst < 1e-6


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    data = Dataset({"x": np.zeros((8, 3), np.float32)}, None, "")
    (tmp_path / "m").write_bytes(b"something else")
    with pytest.raises(BadInput, match="cannot be opened without running code"):
        torch_export.load(SourceSpec(str(tmp_path / "m")), data)
    with pytest.raises(BadInput, match="cannot be read as TorchScript"):
        torchscript.load(SourceSpec(str(tmp_path / "m")), data)
