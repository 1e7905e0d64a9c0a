"""Builds the environment of the fake GPUs: the real onnxruntime-gpu and TensorRT-RTX over our fake CUDA libraries.

    make .venv-gpu-fake/.ready        (calls python -m tests.gpu.fake.environment .venv-gpu-fake)
    FAKE_GPUS="sm=90,name=NVIDIA H100,memory_mib=81559" .venv-gpu-fake/bin/python serve.py --model X --device cuda
    .venv-gpu-fake/bin/python -m pytest tests/gpu/fake

Every process of that interpreter finds the fake libraries: CUDA and cuDNN lie where the vendor's wheels would put them,
and a .pth file loads the driver's two (libcuda, libnvidia-ml) at start. Variables that the libraries read:

- ``FAKE_GPUS``: devices separated by ``;``, fields by ``,``: name, uuid, sm, memory_mib, used_mib, mig, ecc,
  ecc_errors, utilization, and driver, which is one for all. ``none``: a driver without devices. The
  default is one L4 (sm=89, 23034 MiB, driver 580.95.05).
- ``CUDA_VISIBLE_DEVICES``: hides devices from CUDA, and not from NVML.
- ``FAKE_GPU_FAULT=700@20``: after 20 launches every call of CUDA fails with 700.
- ``FAKE_GPU_DRIVER=absent``: neither libcuda nor libnvidia-ml is there.
- ``FAKE_GPU_COMPUTES=1``: the server's CUDA backend gives the values of the CPU (computing.py).

Kernels are counted, not computed: outputs mean nothing. ``tests.gpu.fake.counters`` reads launches, copies and memory.
The rest is the project's own environment, linked entry by entry, without the CPU's onnxruntime.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

NATIVE = Path(__file__).parent / "native"
WHEELS = [
    "onnxruntime-gpu==1.31.1",
    "nvidia-cuda-runtime==13.0.96",  # the headers that the fake is compiled with; its library is replaced
    "nvidia-cuda-crt==13.0.88",  # further headers
    "nvidia-ml-py==13.615.71",
]
OPTIONAL = {
    "tensorrt-rtx": ["tensorrt-rtx-cu13-libs==1.7.1.116", "tensorrt-rtx-cu13-bindings==1.7.1.116"],
    "tensorrt-10": ["tensorrt-cu13-bindings==10.16.1.11"],
    "tensorrt-11": ["tensorrt-cu13-bindings==11.4.0.106"],
}
"""Wheels by folder below ``fake-gpu``. Tests of a folder that is not there are skipped by name."""

REPLACED = ("onnxruntime", "slipway", "__editable__")
"""Entries of the project's environment that the fake one does not have."""

CUDA_MAJOR = 13
LIBRARIES = {
    "libcudart.so.13": ("cudart.c", "nvidia/cu13/lib"),
    "libcublas.so.13": ("cublas.c", "nvidia/cu13/lib"),
    "libcublasLt.so.13": ("cublaslt.c", "nvidia/cu13/lib"),
    "libcurand.so.10": ("", "nvidia/cu13/lib"),
    "libcudnn.so.9": ("cudnn.c", "nvidia/cudnn/lib"),
    "libcuda.so.1": ("driver.c", ""),
    "libnvidia-ml.so.1": ("nvml.c", ""),
}
"""By soname: source, and the folder of the wheel that has the real one; the driver's have none."""

TENSORRT_FUNCTION = re.compile(r"_INTERNAL$|PluginRegistry$|ParserVersion$|^initLib|^getInferLib")

PRELOAD = '''"""Loads the fake driver, which no wheel brings, before anything asks for it by name."""
import ctypes, os
if os.environ.get("FAKE_GPU_DRIVER") != "absent":
    for name in ("libfakegpu.so", "libcuda.so.1", "libnvidia-ml.so.1"):
        ctypes.CDLL(os.path.join({folder!r}, name), mode=ctypes.RTLD_GLOBAL)
if os.environ.get("FAKE_GPU_COMPUTES"):
    import importlib.util, sys
    class Computing:
        """Puts the program that computes on the CPU into the backend, once that is imported."""
        def find_spec(self, name, path=None, target=None):
            if name != "server.backends.onnxruntime_cuda":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            execute = spec.loader.exec_module
            def exec_module(module):
                execute(module)
                from tests.gpu.fake.computing import ComputedProgram
                module.OrtProgram = ComputedProgram
            spec.loader.exec_module = exec_module
            return spec
    sys.meta_path.insert(0, Computing())
'''


def site_packages(environment: Path) -> Path:
    """The package folder of a virtual environment of this Python's version."""
    return environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"


def install(environment: Path) -> bool:
    """Create the environment with the wheels. Returns whether onnxruntime-gpu and CUDA's headers could be had.

    A wheel of ``OPTIONAL`` that cannot be had is reported and left out.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--no-deps", "-q"]
    if subprocess.run([*pip, *WHEELS]).returncode:
        sys.stderr.write("onnxruntime-gpu or CUDA's headers cannot be had: all tests are skipped\n")
        return False
    for folder, wheels in OPTIONAL.items():
        target = site_packages(environment) if folder == "tensorrt-rtx" else environment / "fake-gpu" / folder
        done = subprocess.run([*pip, *wheels] if folder == "tensorrt-rtx" else [*pip, "--target", target, *wheels])
        if done.returncode:
            sys.stderr.write(f"{folder} cannot be had: its tests are skipped\n")
    return True


def link_project(environment: Path, without: tuple[str, ...] = REPLACED) -> None:
    """Link the project's packages into the environment, except those that start like one of ``without``."""
    target = site_packages(environment)
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        link = target / entry.name
        if entry.suffix != ".pth" and not entry.name.startswith(without) and not link.exists():
            link.symlink_to(entry)


def undefined_symbols(library: Path) -> list[str]:
    """The names of functions that a library takes from others."""
    listing = subprocess.run(["nm", "-D", "--undefined-only", library], check=True, capture_output=True, text=True)
    return [line.split()[-1].partition("@")[0] for line in listing.stdout.splitlines()]


def remainder(soname: str, wanted: list[str]) -> str:
    """C code for the functions that no file here defines: weak, so that those of the files replace them.

    A product of cuBLAS is a launch. Every other function accepts its arguments.
    """
    weak = "__attribute__((weak)) int {0}({1}) {{ return {2}; }}"
    if soname == "libcublas.so.13":
        products = [name for name in wanted if name.startswith("cublas") and not name.startswith("cublasLt")]
        body = [weak.format(name, "void *handle", "fake_cublas_product(handle)") for name in products]
        return "\n".join(["int fake_cublas_product(void *);", *body])
    prefix = {"libcublasLt.so.13": "cublasLt", "libcurand.so.10": "curand"}.get(soname, "-")
    return "\n".join(weak.format(name, "void", "0") for name in wanted if name.startswith(prefix))


def compile_libraries(environment: Path) -> None:
    """Compile all fake libraries into ``fake-gpu`` and link them to where the real ones would be."""
    folder, packages = (environment / "fake-gpu").absolute(), site_packages(environment)
    folder.mkdir(exist_ok=True)
    include = packages / "nvidia" / "cu13" / "include"
    wanted = undefined_symbols(packages / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so")
    gcc = ["gcc", "-O1", "-shared", "-fPIC", f"-DFAKE_CUDA_MAJOR={CUDA_MAJOR}", f"-I{include}", f"-I{NATIVE}"]
    subprocess.run([*gcc, "-Wl,-soname,libfakegpu.so", "-o", folder / "libfakegpu.so", NATIVE / "state.c"], check=True)
    for soname, (source, wheel) in LIBRARIES.items():
        rest = folder / f"{soname.partition('.')[0]}-rest.c"
        rest.write_text(remainder(soname, wanted) + "\n", "utf-8")
        versions = folder / f"{soname}.map"
        versions.write_text(f"{soname} {{ global: *; }};\n", "utf-8")
        linked = [f"-L{folder}", "-lfakegpu", f"-Wl,-rpath,{folder}", f"-Wl,-soname,{soname}"]
        if soname in ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13"):  # the vendor's have symbol versions
            linked.append(f"-Wl,--version-script={versions}")
        sources = [rest, *([NATIVE / source] if source else [])]
        subprocess.run([*gcc, "-o", folder / soname, *sources, *linked], check=True)
        if wheel:
            link = packages / wheel / soname
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(folder / soname)
    (packages / "fake_gpu_driver.py").write_text(PRELOAD.format(folder=str(folder)), "utf-8")
    (packages / "fake-gpu-driver.pth").write_text("import fake_gpu_driver\n", "utf-8")


def compile_tensorrt_stubs(folder: Path) -> None:
    """Libraries over which the bindings in ``folder`` can be imported, not used: every function returns 0."""
    wanted = undefined_symbols(folder / "tensorrt_bindings" / "tensorrt.so")
    names = [name for name in wanted if TENSORRT_FUNCTION.search(name)]
    source = folder / "stub.c"
    source.write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in names) + "\n", "utf-8")
    major = folder.name.rpartition("-")[2]
    for library in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser"):
        soname = f"{library}.so.{major}"
        subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", folder / soname, source], check=True)


def main(arguments: list[str]) -> int:
    environment = Path(arguments[0]).absolute()
    if "--compile-only" not in arguments and not install(environment):
        link_project(environment, ())  # pytest, to skip the tests by name
        return 0
    link_project(environment)
    compile_libraries(environment)
    for folder in (environment / "fake-gpu").glob("tensorrt-*"):
        compile_tensorrt_stubs(folder.absolute())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
