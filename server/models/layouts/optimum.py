"""Folders of Optimum and of the Hugging Face Hub: class names, and the pipeline from text that the files describe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...backends.onnx_file import end_names
from ...errors import BrokenArtifact
from ...wiring import Pipeline, StepDeclaration
from .small_files import read_json

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
MODELS = ("onnx/model.onnx", "model.onnx")
"""Where Optimum keeps a model: beside other formats of it on the Hub, alone otherwise."""

TOKENS = ("input_ids", "attention_mask", "token_type_ids")
CLASSIFIER, ENCODER = "ForSequenceClassification", "Model"
"""Ends of the names of architectures."""

SENTENCE, HIDDEN, SCORES = "sentence_embedding", "last_hidden_state", "logits"
POOLING = "1_Pooling/config.json"
KEPT_POSITIONS = ("roberta", "mpnet", "camembert", "longformer", "bart")
"""Kinds of models, or parts of their names, whose first positions, up to that of the padding, have no token."""

MOST_LENGTH = 1_000_000
"""Larger limits of tokenizers mean none."""


class Untold(Exception):
    """The files do not say how the model goes from text to an answer; the text is the reason. Stays in this module."""


def labels(folder: Path) -> tuple[str, ...]:
    """The class names of ``id2label``, in the order of their numbers; empty where the folder says none."""
    names = (_object(folder / CONFIG) or _object(folder / "onnx" / CONFIG)).get("id2label")
    return _ordered(names) if isinstance(names, dict) else ()


def text_pipeline(folder: Path) -> tuple[Pipeline | None, str]:
    """The pipeline from text to classes, scores or vectors that a folder describes, or why there is none.

    Both are empty for a folder without a tokenizer: it says nothing of texts.
    """
    model = next((one for one in MODELS if (folder / one).is_file()), "")
    if not (model and (folder / CONFIG).is_file() and (folder / TOKENIZER).is_file()):
        return None, ""
    try:
        return _pipeline(folder, model, _object(folder / CONFIG)), ""
    except Untold as untold:
        return None, str(untold)


def _pipeline(folder: Path, model: str, config: Mapping[str, Any]) -> Pipeline:
    inputs, outputs = end_names(folder / model)
    other = [name for name in inputs if name not in TOKENS]
    if other or not {"input_ids", "attention_mask"} <= set(inputs):
        raise Untold(f"the model takes {', '.join(inputs) or 'nothing that can be read'}, and not the tokens of a text")
    steps = [
        StepDeclaration("tokenize", "tokenizer", file=TOKENIZER, options=_length(folder, config)),
        StepDeclaration("encode", artifact=model),
    ]
    if SENTENCE in outputs:
        return Pipeline(tuple(steps), (f"encode.{SENTENCE}",), task="sentence-similarity")
    architecture = _architecture(config)
    if architecture.endswith(CLASSIFIER) and SCORES in outputs:
        return _classifier(steps, labels(folder), config)
    if architecture.endswith(ENCODER) and HIDDEN in outputs:
        steps.append(StepDeclaration("pool", "pooling", options=_pooling(folder)))
        return Pipeline(tuple(steps), task="sentence-similarity")
    raise Untold(f"no task is known for the architecture {architecture[:60]!r} with the outputs {outputs[:4]}")


def _classifier(steps: list[StepDeclaration], names: tuple[str, ...], config: Mapping[str, Any]) -> Pipeline:
    """Text to the best class; to the scores, where several classes may be true or the score is a number."""
    if not names:
        raise Untold(f"{CONFIG} has no id2label")
    if len(names) == 1 or config.get("problem_type") in ("regression", "multi_label_classification"):
        return Pipeline(tuple(steps), (f"encode.{SCORES}",), task="text-classification")
    options = {"labels": list(names), "softmax": True}
    last = StepDeclaration("classify", "labels", inputs={"scores": SCORES}, options=options)
    return Pipeline((*steps, last), task="text-classification")


def _pooling(folder: Path) -> dict[str, Any]:
    """The options of the pooling step, by the files of sentence-transformers."""
    config = _object(folder / POOLING)
    if not config:
        raise Untold(f"there is no {POOLING}, which says how the vectors of the tokens become one")
    modes = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    usual = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "mean": "mean", "cls": "cls"}
    mode = usual.get(modes[0] if len(modes) == 1 else str(config.get("pooling_mode")))
    if mode is None:
        raise Untold(f"{POOLING} asks for {', '.join(modes) or 'another pooling'}; mean and cls can be run")
    modules = _modules(folder)
    unknown = [one for one in modules if one not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise Untold(f"modules.json has the module {unknown[0][:60]!r}, which is not in the ONNX file")
    return {"mode": mode, "normalize": "Normalize" in modules}


def _modules(folder: Path) -> list[str]:
    """The kinds of the modules of sentence-transformers, in their order."""
    rows = _json(folder / "modules.json")
    return [str(one.get("type", "")).rpartition(".")[2] for one in rows if isinstance(one, dict)]


def _length(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The longest text, in tokens: the smallest limit of the files; the tokenizer's own where they have none."""
    kind, padding = str(config.get("model_type", "")), config.get("pad_token_id")
    kept = padding + 1 if isinstance(padding, int) and any(one in kind for one in KEPT_POSITIONS) else 0
    positions = config.get("max_position_embeddings")
    found = [
        _object(folder / "tokenizer_config.json").get("model_max_length"),
        _object(folder / "sentence_bert_config.json").get("max_seq_length"),
        positions - kept if type(positions) is int else None,
    ]
    limits = [int(one) for one in found if isinstance(one, (int, float)) and 3 <= one < MOST_LENGTH]
    return {"max_length": min(limits)} if limits else {}


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str) else ""


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. The files belong to the Hub's tools: one that cannot be read says nothing."""
    found = _json(path)
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> Any:
    try:
        return read_json(path) if path.is_file() else {}
    except BrokenArtifact:
        return {}


def _ordered(names: dict[str, object]) -> tuple[str, ...]:
    """Names whose numbers are 0, 1, 2, ... without a gap; none otherwise."""
    ordered = [names.get(str(number)) for number in range(len(names))]
    return tuple(map(str, ordered)) if None not in ordered else ()
