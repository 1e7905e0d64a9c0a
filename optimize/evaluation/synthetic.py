"""Synthetic rows: evaluation data for a text model without --eval, from real sentences if it has a tokenizer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from server.tensors import Array

from ..errors import BadInput
from .dataset import Dataset

ROWS, TOKENS = 160, 32

TOKENIZER = "tokenizer.json"

SENTENCES = (
    "The ferry was late again, so we drank our coffee on the pier and counted gulls.",
    "Please send the signed contract back before Friday, otherwise the offer expires.",
    "How many eggs do I need for a cake that feeds twelve people?",
    "The new pump uses a third less power than the one it replaces.",
    "Shares of the shipyard fell by four percent after the strike was announced.",
    "My grandmother kept bees behind the old mill until she was ninety.",
    "A patient with fever and a stiff neck should be seen by a doctor at once.",
    "Turn the valve to the left, wait ten seconds, and open the lid slowly.",
    "I ordered a blue lamp and received two green ones; what should I do?",
    "In the second half the home team scored three goals within eight minutes.",
    "The court decided that the landlord has to pay for the broken boiler.",
    "Bread needs time: the dough should rest overnight in a cool place.",
    "Which train goes from the airport to the harbour on Sunday evening?",
    "The telescope found water vapour in the air of a planet far away.",
    "Her second novel is shorter than the first, and far more cruel.",
    "Rain is expected in the north, with gusts of wind along the coast.",
    "The update fixes a crash that happened when the disk was full.",
    "We regret to inform you that the position has been filled.",
    "Children under six travel free if an adult comes with them.",
    "He tuned the violin, closed his eyes, and forgot the audience.",
    "The recipe works with rice as well, but then use less water.",
    "Every autumn the cranes gather on these fields before they leave.",
    "Your password was changed; if that was not you, call us immediately.",
    "Taxes on imported steel will rise at the beginning of next year.",
    "This hotel is quiet and clean, but breakfast was a disappointment.",
    "The enzyme splits sugar into two parts, and heat destroys it.",
    "Could you move our meeting to Thursday at half past nine?",
    "The bridge was closed to lorries after engineers had found cracks.",
    "She learned to swim at forty and crossed the lake at fifty.",
    "A queue is a line in which whoever comes first is served first.",
)
"""Everyday English of several kinds; two models that agree on it may still differ on another language."""


def rows(folder: Path, seed: int) -> tuple[Dataset, str]:
    """Rows of a Hugging Face text model, ``input_ids`` and ``attention_mask`` int64 [160, 32], and what they are.

    Our own sentences by the model's tokenizer where one lies beside it, each row cut at another place; else random
    tokens, which are harder on int8 than text is. Raises BadInput for a folder that is no text model's.
    """
    config = _config(folder)
    rng = np.random.default_rng(seed)
    length = min(TOKENS, int(config.get("max_position_embeddings", TOKENS)))
    if (folder / TOKENIZER).is_file():
        tokens = _sentences(folder / TOKENIZER, length, rng)
        about = f"made up: {len(SENTENCES)} English sentences of our own in {ROWS} orders, by the model's tokenizer"
    else:
        tokens = rng.integers(0, int(config["vocab_size"]), (ROWS, length))
        about = f"made up: {ROWS} rows of random tokens, because no {TOKENIZER} lies beside the model"
    arrays = {"input_ids": tokens.astype(np.int64), "attention_mask": np.ones(tokens.shape, np.int64)}
    return Dataset(arrays, None, hashlib.sha256(tokens.astype(np.int64).tobytes()).hexdigest()), about


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("vocab_size"), int):
        raise BadInput(
            f"--eval is needed: rows are made up for Hugging Face text models only, and {folder} is no such folder. "
            "Give an .npz file with an array for each input"
        )
    return config


def _sentences(path: Path, length: int, rng: np.random.Generator) -> Array:
    """Rows of ``length`` tokens: the sentences one after the other in orders of their own, begun and ended as usual."""
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise BadInput("to read the tokenizer, pip install -e '.[huggingface]', or give --eval") from error
    try:
        reader = Tokenizer.from_file(str(path))
    except Exception as error:
        raise BadInput(f"{path} cannot be read as a tokenizer: {error}") from error
    reader.no_padding()
    reader.no_truncation()
    frame = reader.encode("").ids
    begin, end = frame[:1], frame[1:]
    room = length - len(frame)
    made = []
    for _ in range(ROWS):
        words: list[int] = []
        while len(words) < room:
            text = " ".join(SENTENCES[at] for at in rng.permutation(len(SENTENCES))[:4])
            words += reader.encode(text, add_special_tokens=False).ids
        made.append([*begin, *words[:room], *end])
    return np.array(made, np.int64)
