"""NVIDIA GPUs, asked of the driver itself: whether one can be used, and which; needs no package."""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

from segdeploy.errors import SegdeployError

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR in cuda.h
NOT_READY = 600  # CUDA_ERROR_NOT_READY: what was asked for has not passed yet
OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"


def driver_problem() -> str | None:
    """Why no GPU can be used, in one sentence; None if one can."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return f"there is no NVIDIA driver ({DRIVER} cannot be loaded)"
    if status := driver.cuInit(0):
        return f"the NVIDIA driver does not start (cuInit: {_error_name(driver, status)})"
    count = ctypes.c_int()
    if status := driver.cuDeviceGetCount(ctypes.byref(count)):
        return f"the NVIDIA driver lists no GPU (cuDeviceGetCount: {_error_name(driver, status)})"
    return None if count.value else "the NVIDIA driver finds no GPU"


def driver_cuda_version() -> tuple[int, int] | None:
    """The newest CUDA that the driver supports, as (13, 0); None without a driver."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) or not version.value:
        return None
    return version.value // 1000, version.value % 1000 // 10  # cuda.h: 1000 major + 10 minor


def require_driver(what: str) -> None:
    """Raise unless a GPU can be used; `what` needs it and begins the sentence."""
    if problem := driver_problem():
        raise SegdeployError(
            f"{what} needs an NVIDIA GPU, but {problem}",
            hint="use a machine with an NVIDIA GPU and driver; segdeploy doctor shows what is here",
        )


@dataclass(frozen=True)
class GpuFacts:
    """What a plan can be tied to: compute capability as in "8.9"."""

    name: str
    compute_capability: str


def describe_gpu(index: int) -> GpuFacts:
    """Name and compute capability of the GPU that CUDA calls `index`.

    Raises:
        SegdeployError: there is no such GPU.
    """
    device, count = ctypes.c_int(), ctypes.c_int()
    call_driver("cuInit", 0)
    call_driver("cuDeviceGetCount", ctypes.byref(count))
    if index >= count.value:
        raise SegdeployError(
            f"cuda:{index} was asked for; the driver lists {count.value} GPU(s), from cuda:0",
            hint="CUDA_VISIBLE_DEVICES hides GPUs; segdeploy doctor shows what is here",
        )
    call_driver("cuDeviceGet", ctypes.byref(device), index)
    name = ctypes.create_string_buffer(256)
    call_driver("cuDeviceGetName", name, len(name), device)
    capability = []
    for attribute in CAPABILITY:
        value = ctypes.c_int()
        call_driver("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return GpuFacts(name.value.decode(errors="replace"), ".".join(capability))


def bus_id(index: int) -> str:
    """PCI address of the GPU that CUDA calls `index`, by which NVML and nvidia-smi know it.

    Raises:
        SegdeployError: there is no such GPU.
    """
    device, text = ctypes.c_int(), ctypes.create_string_buffer(32)
    call_driver("cuInit", 0)
    call_driver("cuDeviceGet", ctypes.byref(device), index)
    call_driver("cuDeviceGetPCIBusId", text, len(text), device)
    return text.value.decode()


def call_driver(name: str, *arguments: Any, ready: bool = True) -> bool:
    """Call a function of the CUDA driver; False if it answers "not ready", where that may be.

    Raises:
        SegdeployError: it answers with an error, or there is no driver.
    """
    driver = load_driver(DRIVER)
    status = int(getattr(driver, name)(*arguments))
    if status == NOT_READY and not ready:
        return False
    if status:
        reason = _error_name(driver, status)
        hint = "take a smaller batch or size" if reason == OUT_OF_MEMORY else ""
        raise SegdeployError(f"the CUDA driver refuses {name}: {reason}", hint=hint)
    return True


@cache  # 12 of 13 microseconds of a call were spent here
def load_driver(name: str) -> ctypes.CDLL:
    """The library of that name.

    Raises:
        SegdeployError: it cannot be loaded.
    """
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise SegdeployError(f"there is no NVIDIA driver ({name} cannot be loaded)") from error


def _error_name(driver: ctypes.CDLL, status: int) -> str:
    name = ctypes.c_char_p()
    if driver.cuGetErrorName(status, ctypes.byref(name)) or name.value is None:
        return f"error {status}"
    return name.value.decode()
