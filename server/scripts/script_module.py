"""The Python module of a script: where the file is, and its import under a name that no other model shares."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ..errors import BrokenArtifact

log = logging.getLogger("slipway.scripts")

CODE = "code"
USUAL = Path("/opt/ml/code")
SHIMS = Path(__file__).parent / "shims"

_numbers = itertools.count(1)


def script_in_folder(model: Path, script: str) -> Path | None:
    """The script inside a model's folder: in ``code/``, else beside the model; None if there is none."""
    if not model.is_dir():
        return None
    return next((path for path in (model / CODE / script, model / script) if path.is_file()), None)


def find_script(model: Path, script: str, submitted: str = "") -> Path | None:
    """The script of a model: in its folder, else in the folder ``submitted``, else in SageMaker's ``/opt/ml/code``."""
    found = script_in_folder(model, script)
    if found is not None:
        return found
    others = [Path(submitted) / script] if submitted else []
    return next((path for path in (*others, USUAL / script) if path.is_file()), None)


class ScriptModule:
    """One imported script. Its module, and every module beside it, gets a private name.

    Two models may therefore both have an ``inference.py`` and a ``tables.py``. ``import tables`` in a script imports
    its own ``tables.py``. The script's ``print`` writes to the log.
    """

    def __init__(self, path: Path, label: str, folder: Path | None = None) -> None:
        """Import the script. ``label`` is the model's name, for the log. ``folder``: of the script's own modules; None:
        its own. Raises BrokenArtifact with the reason."""
        self.path = path
        self.package = f"slipway_script_{next(_numbers)}"
        own = path.parent if folder is None else folder
        self._paths = [*dict.fromkeys(map(str, (path.parent, own, own / "lib")))]
        self._builtins = {**vars(builtins), "__import__": self._import, "print": Printer(label)}
        self._owned: dict[str, bool] = {}
        self._plain: PlainNames | None = None
        package = ModuleType(self.package)
        package.__path__ = self._paths
        sys.modules[self.package] = package
        sys.meta_path.insert(0, self)
        try:
            with self.visible():
                self.module: ModuleType = importlib.import_module(f"{self.package}.{path.stem}")
        except BaseException as error:
            self.close()
            log.error("importing the script failed file=%s", path.name, exc_info=error)
            raise BrokenArtifact(f"{path.name} cannot be imported: {describe_exception(error)}") from error

    def close(self) -> None:
        """Remove the script's modules from ``sys.modules``."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name.partition(".")[0] == self.package]:
            del sys.modules[name]

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:  # noqa: ARG002 - the import system's signature
        """Find a module under its private name; called by the import system."""
        if not name.startswith(self.package + "."):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = PrivateLoader(name, spec.loader.path, self._builtins)
        return spec

    @contextmanager
    def visible(self) -> Iterator[None]:
        """While the model loads, the modules are also importable by their plain names: pickles name classes so."""
        plain = self._plain = PlainNames(self)
        sys.meta_path.append(plain)
        try:
            yield
        finally:
            self._plain = None
            sys.meta_path.remove(plain)
            for name in plain.given:
                sys.modules.pop(name, None)

    def owns(self, name: str) -> bool:
        """Whether a module of that name is beside the script."""
        if name not in self._owned:
            self._owned[name] = PathFinder.find_spec(f"{self.package}.{name}", self._paths) is not None
        return self._owned[name]

    def _import(
        self, name: str, namespace: Any = None, local_names: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        """The import statement of the script's modules."""
        top = name.partition(".")[0]
        if level or top in sys.builtin_module_names or not self.owns(top):
            return builtins.__import__(name, namespace, local_names, fromlist, level)
        found = builtins.__import__(f"{self.package}.{name}", namespace, local_names, fromlist, 0)
        if self._plain is not None:
            self._plain.give(name)
        return found if fromlist else sys.modules[f"{self.package}.{top}"]


class PrivateLoader(SourceFileLoader):
    """Loads a module with the script's own built-in names, and writes no byte code into the model's folder."""

    def __init__(self, name: str, path: str, names: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._names = names

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._names
        super().exec_module(module)

    def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002 - the import system's signature
        """Compile from the source: byte code in the folder may be of another build."""
        return self.source_to_code(self.get_data(self.path), self.path)


class PlainNames:
    """Finds a script's modules by their plain names and returns the modules that exist already."""

    def __init__(self, script: ScriptModule) -> None:
        self._script = script
        self._spec: ModuleSpec | None = None
        self.given: list[str] = []

    def give(self, name: str) -> None:
        """Register the plain name: the unpickler in C looks it up in ``sys.modules``."""
        parts = name.split(".")
        for plain in (".".join(parts[: end + 1]) for end in range(len(parts))):
            if plain not in sys.modules:
                sys.modules[plain] = sys.modules[f"{self._script.package}.{plain}"]
                self.given.append(plain)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:  # noqa: ARG002
        if name.partition(".")[0].startswith("slipway_script_") or not self._script.owns(name.partition(".")[0]):
            return None
        self.given.append(name)
        return ModuleSpec(name, self)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"{self._script.package}.{spec.name}")
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own specification; its code has run already."""
        module.__spec__ = self._spec


class Printer:
    """``print`` of a script: writes to the log under the model's name, unless the script passes a file of its own."""

    def __init__(self, label: str) -> None:
        self._log = logging.getLogger(f"slipway.script.{label}")

    def __call__(
        self, *values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
    ) -> None:
        if file is not None and file not in (sys.stdout, sys.stderr):
            builtins.print(*values, sep=sep, end=end, file=file, flush=flush)
            return
        self._log.info("%s", (" " if sep is None else sep).join(map(str, values)))


def add_shims_to_path(mode: str) -> None:
    """Put the stand-ins of the toolkit's packages on ``sys.path``.

    ``mode``: ``missing`` (after the installed packages), ``always`` (before them) or ``never``.
    """
    path = str(SHIMS)
    if mode == "never" or path in sys.path:
        return
    if mode == "always":
        sys.path.insert(0, path)
    else:
        sys.path.append(path)


def describe_exception(error: BaseException) -> str:
    """An exception as one short line for the log and for load errors."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
