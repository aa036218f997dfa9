"""The TensorRT library: how it is loaded, and what is read off its log."""

import importlib
from types import ModuleType

import pytest

from segdeploy.errors import SegdeployError
from segdeploy.nvinfer import LogLine, last_error, load_library, warnings
from segdeploy.spec import Runtime

NO_DRIVER = LogLine(
    "ERROR",
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient))",
)


def missing(name: str) -> ModuleType:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def broken(name: str) -> ModuleType:
    raise ImportError("libnvinfer.so.10: cannot open shared object file")


def too_old(name: str) -> ModuleType:
    library = ModuleType(name)
    library.__version__ = "8.6.1"
    return library


@pytest.mark.parametrize(
    ("runtime", "package"),
    [(Runtime.TENSORRT, "tensorrt"), (Runtime.TENSORRT_RTX, "tensorrt_rtx")],
)
def test_a_missing_library_names_the_package_and_the_extra(
    monkeypatch: pytest.MonkeyPatch, runtime: Runtime, package: str
) -> None:
    monkeypatch.setattr(importlib, "import_module", missing)

    with pytest.raises(SegdeployError, match=f"the package {package}, which is not") as caught:
        load_library(runtime)

    assert caught.value.hint == f"pip install 'segdeploy[{runtime}]'"


def test_a_library_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", broken)

    with pytest.raises(SegdeployError, match=r"installed but cannot be loaded \(libnvinfer.so.10"):
        load_library(Runtime.TENSORRT)


def test_tensorrt_before_10_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", too_old)

    with pytest.raises(SegdeployError, match=r"tensorrt 8.6.1 is too old; wanted 10.0"):
        load_library(Runtime.TENSORRT)


def test_other_runtimes_have_no_tensorrt() -> None:
    with pytest.raises(SegdeployError, match="onnxruntime builds no TensorRT engine"):
        load_library(Runtime.ONNXRUNTIME)


def test_the_last_error_is_the_cause_and_not_the_missing_driver() -> None:
    lines = [LogLine("ERROR", "first"), LogLine("ERROR", "the cause\n"), NO_DRIVER]

    assert last_error(lines) == "the cause"


def test_the_missing_driver_is_the_error_where_there_is_no_other() -> None:
    assert "cudaError 35" in last_error([LogLine("WARNING", "careful"), NO_DRIVER])


def test_a_log_without_errors_says_nothing() -> None:
    assert last_error([LogLine("WARNING", "careful")]) == ""


def test_a_repeated_warning_counts_once() -> None:
    lines = [LogLine("WARNING", "slow"), LogLine("INFO", "fine"), LogLine("WARNING", "slow")]

    assert warnings(lines) == ("slow",)
