"""Lines about TensorRT, TensorRT-RTX and the CUDA packages."""

import pytest

TENSORRT = ("tensorrt", "tensorrt-cu13")
ON_V100 = {"driver_cuda": (12, 4), "gone": TENSORRT}


def test_tensorrt_that_dropped_the_gpu_is_replaced(with_gpu, line_of):
    installed = {"tensorrt-cu12": "10.9.0.34", "tensorrt-cu12-libs": "10.9.0.34"}

    line = line_of(with_gpu("V100", extra=installed, **ON_V100), "tensorrt")

    assert not line.ok
    assert line.found == "10.9.0.34; the last for compute capability 7.0 is 10.4.0"
    assert line.advice == (
        "pip uninstall -y tensorrt-cu12 tensorrt-cu12-libs && pip install 'tensorrt-cu12==10.4.0'"
    )
    assert line.gives == {"tensorrt": False}


def test_the_last_tensorrt_of_a_v100_fits_it(with_gpu, line_of):
    line = line_of(with_gpu("V100", extra={"tensorrt-cu12": "10.4.0"}, **ON_V100), "tensorrt")

    assert (line.ok, line.found) == (True, "10.4.0")


@pytest.mark.parametrize(
    ("python", "advice"),
    [
        ((3, 12, 3), "pip install 'tensorrt-cu12==10.4.0'"),
        (
            (3, 13, 1),
            "pip install 'tensorrt-cu12==10.4.0'  # in Python 3.12: newer ones have no wheel of it",
        ),
    ],
)
def test_a_v100_without_tensorrt_gets_its_last(with_gpu, line_of, python, advice):
    line = line_of(with_gpu("V100", python=python, **ON_V100), "tensorrt")

    assert not line.ok
    assert line.advice == advice


def test_a_gpu_that_no_tensorrt_knows_gets_no_line(with_gpu, line_of):
    line = line_of(with_gpu("P100", **ON_V100), "tensorrt")

    assert line.advice == "use ONNX Runtime or PyTorch on this GPU"


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_wheels_for_a_newer_cuda_than_the_drivers_are_replaced(with_gpu, line_of, name):
    line = line_of(with_gpu("A100", driver_cuda=(12, 4)), name)

    assert not line.ok
    assert line.found.endswith("; for CUDA 13; the driver ends at 12.4")
    assert line.advice == (f"pip uninstall -y {name} {name}-cu13 && pip install {name}-cu12")


def test_two_flavours_overwrite_each_other(with_gpu, line_of):
    line = line_of(with_gpu("A100", extra={"tensorrt-cu12": "11.4.0.106"}), "tensorrt")

    assert not line.ok
    assert "overwrite each other's files" in line.found
    assert line.advice.startswith("pip uninstall -y tensorrt tensorrt-cu12 tensorrt-cu13 && ")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("tensorrt", "tensorrt"),
        ("tensorrt-rtx", "tensorrt_rtx"),
        ("cuda-python", "cuda.bindings.runtime"),
    ],
)
def test_a_package_that_does_not_load_says_why(with_gpu, line_of, name, module):
    line = line_of(with_gpu("A100", import_problems={module: "libx.so: file too short"}), name)

    assert not line.ok
    assert line.found.endswith("; does not load: libx.so: file too short")
    assert not any(line.gives.values())
    assert "pip install" in line.advice


@pytest.mark.parametrize(
    ("gpu", "says", "runs"),
    [
        ("A100", "1.7.1.116", True),
        ("T4", "1.7.1.116; this GPU needs build-engine --compute-capability 7.5", True),
        ("H100", "1.7.1.116; NVIDIA's support matrix has no 9.0: prefer tensorrt", True),
        (
            "V100",
            "1.7.1.116; builds for other GPUs: it runs from compute capability 7.5 on",
            False,
        ),
    ],
)
def test_tensorrt_rtx_builds_for_any_gpu_and_runs_on_some(with_gpu, line_of, gpu, says, runs):
    versions = {"tensorrt-rtx-cu12": "1.7.1.116"}

    line = line_of(with_gpu(gpu, versions=versions), "tensorrt-rtx")

    assert line.ok
    assert line.found == says
    assert line.gives == {"tensorrt-rtx": True, "tensorrt-rtx on this GPU": runs}


def test_tensorrt_rtx_builds_where_its_cuda_is_too_new_to_run(with_gpu, line_of):
    line = line_of(with_gpu("A100", driver_cuda=(12, 4)), "tensorrt-rtx")

    assert line.gives == {"tensorrt-rtx": True, "tensorrt-rtx on this GPU": False}


def test_cuda_python_newer_than_the_driver_is_named(with_gpu, line_of):
    line = line_of(with_gpu("A100", driver_cuda=(12, 4)), "cuda-python")

    assert not line.ok
    assert line.found == "13.4.4; the driver ends at CUDA 12.4"
    assert line.advice == "pip install 'segdeploy[cuda]' 'cuda-python<13'"


def test_its_bindings_alone_are_enough(with_gpu, line_of):
    machine = with_gpu("A100", gone=["cuda-python"], extra={"cuda-bindings": "13.4.4"})

    assert line_of(machine, "cuda-python").ok


def test_pycuda_is_taken_first_where_it_loads(with_gpu, line_of):
    machine = with_gpu("A100", gone=["cuda-python"], extra={"pycuda": "2026.1"})

    assert line_of(machine, "pycuda").found == "2026.1; taken first, without CUDA graphs"
    assert line_of(machine, "cuda-python").gives == {}


def test_pycuda_that_does_not_load_stands_in_the_way(with_gpu, without_gpu, line_of):
    problems = {"pycuda.driver": "undefined symbol: cuArrayCreate_v2"}

    broken = line_of(
        with_gpu("A100", extra={"pycuda": "2026.1"}, import_problems=problems), "pycuda"
    )
    early = line_of(without_gpu(versions={"pycuda": "2026.1"}, import_problems=problems), "pycuda")

    assert not broken.ok
    assert broken.gives == {"a CUDA package": False}
    assert broken.advice.startswith("pip uninstall -y pycuda")
    assert early.advice == "nothing before there is a driver"
