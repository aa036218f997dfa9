"""A CUDA driver that records what it is asked and answers as it is told."""

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from segdeploy.cuda import CAPABILITY, load_driver

ERRORS = {
    2: b"CUDA_ERROR_OUT_OF_MEMORY",
    100: b"CUDA_ERROR_NO_DEVICE",
    201: b"CUDA_ERROR_INVALID_CONTEXT",
    600: b"CUDA_ERROR_NOT_READY",
}
MADE = {"cuDevicePrimaryCtxRetain": 0xC0, "cuEventCreate": 0xE0}  # handles, as one sees them
CUDA_VERSION = 12040


class FakeDriver:
    """Stands in for libcuda with GPUs whose CUdevice is their index plus 70.

    Args:
        gpus: (name, major, minor) of each.
    """

    def __init__(self, *gpus: tuple[bytes, int, int]) -> None:
        self.gpus = gpus
        self.calls: list[tuple[Any, ...]] = []  # the name, then what went in
        self.statuses: dict[str, int] = {}  # of calls that shall not answer 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *arguments: self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> int:
        self.calls.append((name, *(self._value(a) for a in arguments if not hasattr(a, "_obj"))))
        if status := self.statuses.get(name, 0):
            return status
        match name:
            case "cuGetErrorName":
                status, text = arguments
                text._obj.value = ERRORS.get(status)
                return 0 if status in ERRORS else 1
            case "cuDeviceGetCount":
                arguments[0]._obj.value = len(self.gpus)
            case "cuDriverGetVersion":
                arguments[0]._obj.value = CUDA_VERSION
            case "cuDeviceGet":
                arguments[0]._obj.value = arguments[1] + 70
            case "cuDeviceGetName":
                arguments[0].value = self.gpus[arguments[2].value - 70][0]
            case "cuDeviceGetAttribute":
                gpu = self.gpus[arguments[2].value - 70]
                arguments[0]._obj.value = gpu[1 + CAPABILITY.index(arguments[1])]
            case "cuDeviceGetPCIBusId":
                arguments[0].value = b"0000:%02X:00.0" % (arguments[2].value - 70 + 0x3B)
            case "cuEventElapsedTime":
                arguments[0]._obj.value = 2.5
            case _ if name in MADE:
                arguments[0]._obj.value = MADE[name]
        return 0

    @staticmethod
    def _value(argument: Any) -> Any:
        return argument.value if isinstance(argument, ctypes._SimpleCData) else argument

    @property
    def names(self) -> list[str]:
        """Of the calls, in their order."""
        return [name for name, *_ in self.calls]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A driver with one H100, in the place of the machine's own."""
    fake = FakeDriver((b"NVIDIA H100", 9, 0))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    return fake


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a driver that is nowhere."""
    name = "libno-such-driver.so.1"
    monkeypatch.setattr("segdeploy.cuda.DRIVER", name)
    return name


@pytest.fixture(autouse=True)
def no_driver_is_remembered() -> Iterator[None]:
    """What a test loads in place of the driver is its own."""
    load_driver.cache_clear()
    yield
    load_driver.cache_clear()
