"""The driver probe: what it says with no driver, with a broken one, and with a GPU."""

import ctypes

import pytest

from segdeploy import cuda
from segdeploy.cuda import GpuFacts, bus_id, call_driver, describe_gpu
from segdeploy.errors import SegdeployError


def test_a_gpu_is_no_problem(driver):
    assert cuda.driver_problem() is None
    cuda.require_driver("this test")


def test_a_missing_driver_is_named(no_driver):
    assert cuda.driver_problem() == f"there is no NVIDIA driver ({no_driver} cannot be loaded)"


def test_a_driver_that_does_not_start_says_its_error(driver):
    driver.statuses["cuInit"] = 100

    problem = cuda.driver_problem()

    assert problem == "the NVIDIA driver does not start (cuInit: CUDA_ERROR_NO_DEVICE)"


def test_a_driver_without_gpus_is_an_error_that_says_what_needs_one(driver):
    driver.gpus = ()

    with pytest.raises(SegdeployError, match=r"this test needs an NVIDIA GPU, but .* finds no GPU"):
        cuda.require_driver("this test")


def test_the_driver_says_which_cuda_it_supports(driver):
    driver.gpus = ()  # it answers before it starts, and without a GPU

    assert cuda.driver_cuda_version() == (12, 4)
    assert "cuInit" not in driver.names


def test_a_driver_that_gives_no_version_supports_no_cuda(driver):
    driver.statuses["cuDriverGetVersion"] = 999

    assert cuda.driver_cuda_version() is None


def test_without_a_driver_there_is_no_cuda(no_driver):
    assert cuda.driver_cuda_version() is None


def test_a_gpu_is_described_by_its_name_and_compute_capability(driver):
    driver.gpus = ((b"NVIDIA H100", 9, 0), (b"NVIDIA RTX 6000 Ada", 8, 9))

    assert describe_gpu(0) == GpuFacts("NVIDIA H100", "9.0")
    assert describe_gpu(1) == GpuFacts("NVIDIA RTX 6000 Ada", "8.9")


def test_a_gpu_that_is_not_there_is_refused_with_what_there_is(driver):
    with pytest.raises(SegdeployError, match=r"cuda:1 .* lists 1 GPU\(s\), from cuda:0") as caught:
        describe_gpu(1)

    assert "CUDA_VISIBLE_DEVICES" in caught.value.hint
    assert "cuDeviceGet" not in driver.names


def test_a_name_that_is_no_utf8_still_describes_a_gpu(driver):
    driver.gpus = ((b"GPU \xff", 8, 0),)

    assert describe_gpu(0).compute_capability == "8.0"


def test_an_error_of_the_driver_names_the_call_and_the_error(driver):
    driver.statuses["cuCtxPushCurrent_v2"] = 201

    with pytest.raises(SegdeployError) as caught:
        call_driver("cuCtxPushCurrent_v2", ctypes.c_void_p(3))

    assert str(caught.value) == (
        "the CUDA driver refuses cuCtxPushCurrent_v2: CUDA_ERROR_INVALID_CONTEXT"
    )
    assert caught.value.hint == ""
    assert driver.calls[0] == ("cuCtxPushCurrent_v2", 3)


def test_an_error_without_a_name_is_told_by_its_number(driver):
    driver.statuses["cuInit"] = 12345

    with pytest.raises(SegdeployError, match="refuses cuInit: error 12345"):
        call_driver("cuInit", 0)


def test_memory_that_runs_out_has_a_hint(driver):
    driver.statuses["cuEventCreate"] = 2

    with pytest.raises(SegdeployError, match="CUDA_ERROR_OUT_OF_MEMORY") as caught:
        call_driver("cuEventCreate", ctypes.byref(ctypes.c_void_p()), 0)

    assert "smaller batch" in caught.value.hint


def test_not_ready_is_an_answer_only_where_it_may_be_one(driver):
    driver.statuses["cuEventQuery"] = 600

    assert call_driver("cuEventQuery", ctypes.c_void_p(1), ready=False) is False
    with pytest.raises(SegdeployError, match="CUDA_ERROR_NOT_READY"):
        call_driver("cuEventQuery", ctypes.c_void_p(1))


def test_an_error_is_no_answer_where_not_ready_is_one(driver):
    driver.statuses["cuEventQuery"] = 201

    with pytest.raises(SegdeployError, match="CUDA_ERROR_INVALID_CONTEXT"):
        call_driver("cuEventQuery", ctypes.c_void_p(1), ready=False)


def test_a_call_without_a_driver_says_that_there_is_none(no_driver):
    with pytest.raises(SegdeployError, match=f"no NVIDIA driver .{no_driver}"):
        call_driver("cuInit", 0)


def test_a_gpu_has_an_address_that_other_programs_know(driver):
    assert bus_id(1) == "0000:3C:00.0"

    driver.statuses["cuDeviceGet"] = 100

    with pytest.raises(SegdeployError, match="CUDA_ERROR_NO_DEVICE"):
        bus_id(9)
