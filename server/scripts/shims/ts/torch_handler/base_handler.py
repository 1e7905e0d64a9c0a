"""The base class of TorchServe's handlers: loads the archive's model, and runs it between two conversions.

PyTorch is imported where a model of it is loaded; a model in ONNX needs ONNX Runtime alone.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np

from server.tensors import BY_ONNX

from ..utils.util import list_classes_from_module, load_label_mapping

MAPPING = "index_to_name.json"


class BaseHandler:
    """``initialize`` loads the model, ``handle`` calls ``preprocess``, ``inference`` and ``postprocess``."""

    def __init__(self) -> None:
        self.model: Any = None
        self.mapping: dict[str, Any] | None = None
        self.device: Any = None
        self.initialized = False
        self.context: Any = None
        self.model_pt_path: str | None = None
        self.manifest: dict[str, Any] | None = None
        self.map_location: str | None = None
        self.explain = False
        self.target = 0

    def initialize(self, context: Any) -> None:
        """Load ``serializedFile`` of the manifest: ONNX, TorchScript, or weights of the class in ``modelFile``.

        Raises RuntimeError where the archive has no model, or one of another kind.
        """
        self.context, self.manifest = context, context.manifest
        properties = context.system_properties
        folder, gpu = Path(properties["model_dir"]), properties.get("gpu_id")
        self.map_location = "cpu" if gpu is None else "cuda"
        self.device = "cpu" if gpu is None else f"cuda:{gpu}"
        model = context.manifest["model"]
        serialized, code = model.get("serializedFile"), model.get("modelFile")
        path = folder / serialized if serialized else None
        self.model_pt_path = None if path is None else str(path)
        if path is not None and path.suffix == ".onnx":
            self.model = _onnx_session(path)
        elif code:
            self.model = self._load_pickled_model(str(folder), code, self.model_pt_path)
        elif path is not None and path.suffix in (".pt", ".pth"):
            self.model = self._load_torchscript_model(self.model_pt_path)
        else:
            raise RuntimeError(f"the archive has no model that the base handler can load: {serialized or 'none'}")
        self.mapping = load_label_mapping(str(folder / MAPPING))
        self.initialized = True

    def preprocess(self, data: Any) -> Any:
        """A tensor of the data (a NumPy array for an ONNX model)."""
        if is_onnx(self.model):
            return np.asarray(data)
        return torch().as_tensor(data, device=self.device)

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """The model's output for the data. Of an ONNX model with several outputs the list."""
        if is_onnx(self.model):
            (first, *_) = self.model.get_inputs()
            given = data if isinstance(data, dict) else {first.name: np.asarray(data, BY_ONNX[first.type].numpy)}
            results = self.model.run(None, given)
            return results[0] if len(results) == 1 else results
        with torch().inference_mode():
            return self.model(data.to(self.device), *args, **kwargs)

    def postprocess(self, data: Any) -> Any:
        """The output as a list with one result for each request."""
        return data.tolist()

    def handle(self, data: Any, context: Any) -> Any:
        """One result for each of the requests in ``data``."""
        self.context = context
        return self.postprocess(self.inference(self.preprocess(data)))

    def _load_torchscript_model(self, model_pt_path: str | None) -> Any:
        return torch().jit.load(model_pt_path, map_location=self.device).eval()

    def _load_pickled_model(self, model_dir: str, model_file: str, model_pt_path: str | None) -> Any:
        """The one class of the archive's model file, with the weights. Raises RuntimeError for several classes.

        The file lies in ``model_dir``, the folder of the archive, whose modules can be imported while it loads.
        """
        if not (Path(model_dir) / model_file).is_file():
            raise RuntimeError(f"the archive has no file {model_file}")
        library = torch()
        module = importlib.import_module(Path(model_file).stem)
        classes = list_classes_from_module(module)
        if len(classes) != 1:
            raise RuntimeError(f"{model_file} must define one class, it defines {len(classes)}")
        model = classes[0]()
        if model_pt_path:
            model.load_state_dict(library.load(model_pt_path, map_location=self.device, weights_only=True))
        return model.to(self.device).eval()


def torch() -> Any:
    """PyTorch, imported when a model of it is loaded. Raises RuntimeError where it is not installed."""
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise RuntimeError(
            "the model needs PyTorch, which is not installed: install it, or export the model to ONNX"
        ) from error


def _onnx_session(path: Path) -> Any:
    return importlib.import_module("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])


def is_onnx(model: Any) -> bool:
    """Whether a model is a session of ONNX Runtime, and no module of PyTorch."""
    return hasattr(model, "get_inputs") and inspect.ismethod(getattr(model, "run", None))
