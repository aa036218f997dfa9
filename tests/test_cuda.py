"""The driver probe: what it says with no driver, with a broken one, and with a GPU."""

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from segdeploy import cuda
from segdeploy.errors import SegdeployError


class FakeDriver:
    """Stands in for libcuda: the status of cuInit, and how many GPUs there are."""

    def __init__(self, *, status: int = 0, gpus: int = 0) -> None:
        self.status = status
        self.gpus = gpus

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.gpus
        return 0

    def cuGetErrorName(self, status: int, name: Any) -> int:  # noqa: N802
        name._obj.value = b"CUDA_ERROR_NO_DEVICE"
        return 0


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeDriver], None]:
    return lambda driver: monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)


def test_a_gpu_is_no_problem(install: Callable[[FakeDriver], None]) -> None:
    install(FakeDriver(gpus=1))

    assert cuda.driver_problem() is None
    cuda.require_driver("this test")


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "libno-such-driver.so.1")

    assert cuda.driver_problem() == (
        "there is no NVIDIA driver (libno-such-driver.so.1 cannot be loaded)"
    )


def test_a_driver_that_does_not_start_says_its_error(
    install: Callable[[FakeDriver], None],
) -> None:
    install(FakeDriver(status=100))

    problem = cuda.driver_problem()

    assert problem == "the NVIDIA driver does not start (cuInit: CUDA_ERROR_NO_DEVICE)"


def test_a_driver_without_gpus_is_an_error_that_says_what_needs_one(
    install: Callable[[FakeDriver], None],
) -> None:
    install(FakeDriver(gpus=0))

    with pytest.raises(SegdeployError, match=r"this test needs an NVIDIA GPU, but .* finds no GPU"):
        cuda.require_driver("this test")
