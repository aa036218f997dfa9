"""A machine as it should be, to be changed by a test."""

from collections.abc import Callable

import pytest

from segdeploy.doctor.finding import Finding
from segdeploy.doctor.findings import diagnose
from segdeploy.doctor.machine import Machine
from segdeploy.doctor.probes import Provider
from segdeploy.environment import Gpu

GPUS = {
    "A100": Gpu("NVIDIA A100-SXM4-80GB", "580.95.05", "8.0", 81920 << 20),
    "H100": Gpu("NVIDIA H100 80GB HBM3", "580.95.05", "9.0", 81920 << 20),
    "P100": Gpu("Tesla P100-PCIE-16GB", "550.54", "6.0", 16384 << 20),
    "T4": Gpu("Tesla T4", "580.95.05", "7.5", 16384 << 20),
    "V100": Gpu("Tesla V100-SXM2-16GB", "550.54", "7.0", 16384 << 20),
}

WITHOUT_GPU = {
    "python": (3, 12, 3),
    "gpu_problem": "nvidia-smi is not installed",
    "driver_problem": "there is no NVIDIA driver (libcuda.so.1 cannot be loaded)",
    "versions": {
        "torch": "2.13.0+cpu",
        "onnxruntime": "1.32.0",
        "tensorrt-rtx": "1.7.1.116",
        "tensorrt-rtx-cu13": "1.7.1.116",
        "cuda-python": "13.4.4",
        "opencv-python-headless": "5.0.0.93",
    },
    "import_problems": {},
    "providers": (Provider("CPUExecutionProvider", ""),),
    "memory_bytes": 16 << 30,
    "free_disk_bytes": 16 << 30,
}
WITH_GPU = {
    **WITHOUT_GPU,
    "gpu_problem": "",
    "driver_problem": None,
    "driver_cuda": (13, 0),
    "torch_cuda": "13.0",
    "versions": {
        "torch": "2.13.0",
        "onnxruntime-gpu": "1.31.1",
        "tensorrt": "11.4.0.106",
        "tensorrt-cu13": "11.4.0.106",
        "tensorrt-rtx": "1.7.1.116",
        "tensorrt-rtx-cu13": "1.7.1.116",
        "cuda-python": "13.4.4",
        "opencv-python-headless": "5.0.0.93",
    },
    "providers": (Provider("CUDAExecutionProvider", ""), Provider("CPUExecutionProvider", "")),
}


@pytest.fixture
def without_gpu() -> Callable[..., Machine]:
    """A machine that has all that makes sense without a GPU."""
    return lambda **changes: Machine(**{**WITHOUT_GPU, **changes})


@pytest.fixture
def with_gpu() -> Callable[..., Machine]:
    """A machine that has everything for the GPUs it is given; `extra` and `gone` are packages."""

    def make(*names: str, extra=(), gone=(), **changes) -> Machine:
        gpus = tuple(GPUS[name] for name in names)
        versions = {k: v for k, v in WITH_GPU["versions"].items() if k not in gone} | dict(extra)
        return Machine(**{**WITH_GPU, "gpus": gpus, "versions": versions, **changes})

    return make


@pytest.fixture
def line_of() -> Callable[[Machine, str], Finding]:
    """The line about one part."""
    return lambda machine, name: next(x for x in diagnose(machine) if x.name == name)
