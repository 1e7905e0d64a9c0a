"""Foreign models: files that other servers run and this one does not, and what to do about each of them."""

from __future__ import annotations

from pathlib import Path

FOREIGN = {
    "model.py": "code of Triton's Python backend: serve it as a script, code/inference.py with model_fn and predict_fn",
    "model.pt": "a PyTorch model: python -m optimize model.pt --output DIR makes an artifact of TorchScript",
    "model.savedmodel": "a TensorFlow model: python -m optimize model.savedmodel --output DIR makes an artifact",
    "saved_model.pb": "a TensorFlow model: python -m optimize FOLDER --output DIR makes an artifact of its folder",
    "model.graphdef": "a frozen TensorFlow graph: convert it with tf2onnx",
    "model.joblib": "a pickle: python -m optimize model.joblib --allow-pickle --output DIR makes an artifact",
    "model.pickle": "a pickle: python -m optimize model.pickle --allow-pickle --output DIR makes an artifact",
    "model.pkl": "a pickle: python -m optimize model.pkl --allow-pickle --output DIR makes an artifact",
    "model.bst": "an XGBoost model: save it as model.ubj; python -m optimize model.ubj --output DIR makes an artifact",
    "model.ubj": "an XGBoost model: python -m optimize model.ubj --output DIR makes an artifact",
    "MLmodel": "an MLflow model: python -m optimize takes the model file beside it, and makes an artifact",
    "model.safetensors": "weights: python -m optimize FOLDER --output DIR makes an artifact of their folder",
}
"""Files of other servers' models by their usual names, and a sentence about each."""


def foreign(folder: Path) -> str:
    """Which known model that the server does not run lies in a folder, and what to do; empty where there is none."""
    for name, what in FOREIGN.items():
        if (folder / name).exists():
            return f"{name} is {what}"
    return ""
