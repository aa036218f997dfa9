"""All that is asked of a machine, once; imports no heavy package and touches no device."""

import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from segdeploy.cuda import driver_cuda_version, driver_problem
from segdeploy.doctor.probes import Provider, import_problem, try_providers
from segdeploy.doctor.wheels import TENSORRT, TENSORRT_RTX, Hardware
from segdeploy.environment import PACKAGES, Gpu, installed_version, memory_bytes, query_gpus

# Distributions, and what is imported to see whether they load. Not torch: it takes seconds.
MODULES = {
    "tensorrt": "tensorrt",
    "tensorrt-cu12": "tensorrt",
    "tensorrt-cu13": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
    "tensorrt-rtx-cu12": "tensorrt_rtx",
    "cuda-bindings": "cuda.bindings.runtime",
    "cuda-python": "cuda.bindings.runtime",
    "pycuda": "pycuda.driver",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was found; every line of `segdeploy doctor` follows from this alone."""

    python: tuple[int, int, int]
    gpus: tuple[Gpu, ...] = ()
    gpu_problem: str = ""
    driver_problem: str | None
    driver_cuda: tuple[int, int] | None = None
    versions: Mapping[str, str]  # of the distributions that are installed
    torch_cuda: str = ""  # "" for a CPU build
    import_problems: Mapping[str, str]  # of the modules that were tried; "" if it imports
    providers: tuple[Provider, ...] = ()
    memory_bytes: int | None
    free_disk_bytes: int

    @property
    def has_gpu(self) -> bool:
        """nvidia-smi is missing in some containers that have a GPU: the driver counts too."""
        return bool(self.gpus) or self.driver_problem is None

    @property
    def hardware(self) -> Hardware:
        """What decides which wheels fit: the best GPU, which CUDA makes its first device."""
        known = [found for gpu in self.gpus if (found := _capability(gpu))]
        return Hardware(max(known, default=None), self.driver_cuda)


def examine_machine() -> Machine:
    """Look at everything; a library is only ever loaded in a process of its own."""
    gpus, gpu_problem = query_gpus()
    names = {*PACKAGES, *TENSORRT, *TENSORRT_RTX, "cuda-bindings"}
    versions = {name: found for name in sorted(names) if (found := installed_version(name))}
    modules = sorted({module for name, module in MODULES.items() if name in versions})
    problems = {module: import_problem(module) for module in modules}
    providers: tuple[Provider, ...] = ()
    if "onnxruntime" in versions or "onnxruntime-gpu" in versions:
        providers, problems["onnxruntime"] = try_providers()
    return Machine(
        python=sys.version_info[:3],
        gpus=gpus,
        gpu_problem=gpu_problem,
        driver_problem=driver_problem(),
        driver_cuda=driver_cuda_version(),
        versions=versions,
        torch_cuda=torch_cuda(),
        import_problems=problems,
        providers=providers,
        memory_bytes=memory_bytes(),
        free_disk_bytes=shutil.disk_usage(Path.cwd()).free,
    )


def torch_cuda() -> str:
    """The CUDA version in torch/version.py, read without importing torch; "" for a CPU build."""
    try:
        path = Path(str(metadata.distribution("torch").locate_file("torch/version.py")))
    except metadata.PackageNotFoundError:
        return ""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else ""


def _capability(gpu: Gpu) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d+)\.(\d+)", gpu.compute_capability)
    return (int(match[1]), int(match[2])) if match else None
