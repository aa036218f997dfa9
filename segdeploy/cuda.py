"""Whether an NVIDIA GPU can be used, asked of the driver itself; needs no CUDA package."""

import ctypes
import sys

from segdeploy.errors import SegdeployError

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


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


def require_driver(what: str) -> None:
    """Raise unless a GPU can be used; `what` needs it and begins the sentence."""
    if problem := driver_problem():
        raise SegdeployError(
            f"{what} needs an NVIDIA GPU, but {problem}",
            hint="use a machine with an NVIDIA GPU and driver; segdeploy doctor shows what is here",
        )


def _error_name(driver: ctypes.CDLL, status: int) -> str:
    name = ctypes.c_char_p()
    if driver.cuGetErrorName(status, ctypes.byref(name)) or name.value is None:
        return f"error {status}"
    return name.value.decode()
