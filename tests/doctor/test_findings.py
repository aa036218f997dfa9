"""What each line says of a machine, and what it advises."""

import pytest

from segdeploy.doctor.findings import diagnose
from segdeploy.doctor.probes import Provider


def test_there_is_a_line_for_each_part(without_gpu):
    assert [line.name for line in diagnose(without_gpu())] == [
        "python", "GPU", "NVIDIA driver", "torch", "onnxruntime", "onnxruntime CPU", "tensorrt",
        "tensorrt-rtx", "cuda-python", "memory", "disk", "opencv",
    ]  # fmt: skip


def test_a_machine_that_has_everything_needs_nothing(with_gpu):
    assert [line for line in diagnose(with_gpu("A100")) if not line.ok or line.advice] == []


def test_whatever_is_not_ok_comes_with_advice(without_gpu):
    lines = {line.name: line for line in diagnose(without_gpu(versions={}, providers=()))}

    assert all(line.advice for line in lines.values() if not line.ok)
    assert lines["torch"].advice == "pip install 'segdeploy[torch]'"
    assert lines["onnxruntime"].advice == "pip install 'segdeploy[onnxruntime]'"
    assert lines["tensorrt"].advice == "pip install 'segdeploy[tensorrt]'"
    assert lines["tensorrt-rtx"].advice == "pip install 'segdeploy[tensorrt-rtx]'"
    assert lines["cuda-python"].advice == "pip install 'segdeploy[cuda]'"
    assert lines["opencv"].advice == "pip install opencv-python-headless"
    assert lines["NVIDIA driver"].found.endswith("(libcuda.so.1 cannot be loaded)")


def test_a_working_driver_shows_its_version_and_its_cuda(with_gpu, line_of):
    line = line_of(with_gpu("A100"), "NVIDIA driver")

    assert line.ok
    assert line.found == "580.95.05, for CUDA up to 13.0"


def test_a_driver_older_than_all_wheels_is_named(with_gpu, line_of):
    line = line_of(with_gpu("A100", driver_cuda=(11, 4)), "NVIDIA driver")

    assert not line.ok
    assert line.found.endswith("for CUDA up to 11.4; wanted 12.0")


def test_why_nvidia_smi_lists_no_gpu_is_shown(without_gpu, with_gpu, line_of):
    broken = line_of(without_gpu(gpu_problem="nvidia-smi exited with 18"), "GPU")
    hidden = line_of(with_gpu(gpu_problem="nvidia-smi is not installed"), "GPU")

    assert (broken.ok, broken.found) == (False, "nvidia-smi exited with 18")
    assert "the driver sees a GPU" in hidden.advice


@pytest.mark.parametrize(
    ("gpu", "ok", "says"),
    [
        ("A100", True, "compute capability 8.0"),
        ("V100", True, "7.0; for it CUDA ends at 12, TensorRT at 10.4.0"),
        ("P100", False, "6.0; TensorRT 10 begins at 7.0"),
    ],
)
def test_an_old_gpu_shows_its_limits(with_gpu, line_of, gpu, ok, says):
    line = line_of(with_gpu(gpu), "GPU")

    assert line.ok is ok
    assert line.found.endswith(says)


def test_cpu_torch_is_right_only_without_a_gpu(with_gpu, without_gpu, line_of):
    beside_gpu = line_of(with_gpu("A100", torch_cuda=""), "torch")

    assert line_of(without_gpu(), "torch").ok
    assert line_of(with_gpu("A100"), "torch").found == "2.13.0 (CUDA 13.0 build)"
    assert not beside_gpu.ok
    assert beside_gpu.advice == "pip uninstall -y torch && pip install 'segdeploy[torch]'"
    assert beside_gpu.gives == {"torch": True, "torch on CUDA": False}


def test_torch_for_a_newer_cuda_than_the_drivers_is_named(with_gpu, line_of):
    line = line_of(with_gpu("A100", driver_cuda=(12, 4)), "torch")

    assert not line.ok
    assert line.found == "2.13.0 (CUDA 13.0 build) for CUDA 13; the driver ends at 12.4"
    assert "whl/cu126" in line.advice


def test_both_onnxruntimes_together_are_broken(with_gpu, line_of):
    line = line_of(with_gpu("A100", extra={"onnxruntime": "1.31.1"}), "onnxruntime")

    assert not line.ok
    assert line.found == (
        "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 overwrite each other's files"
    )
    assert line.advice.startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install")
    assert "[onnxruntime-gpu]" in line.advice
    assert not any(line.gives.values())


@pytest.mark.parametrize(
    ("versions", "on_gpu", "ok", "extra"),
    [
        ({"onnxruntime": "1.32.0"}, False, True, ""),
        ({"onnxruntime-gpu": "1.31.1"}, True, True, ""),
        ({"onnxruntime-gpu": "1.31.1"}, False, True, ""),
        ({"onnxruntime": "1.32.0"}, True, False, "[onnxruntime-gpu]"),
        ({}, True, False, "[onnxruntime-gpu]"),
        ({}, False, False, "[onnxruntime]"),
    ],
)
def test_onnxruntime_fits_the_machine(with_gpu, without_gpu, line_of, versions, on_gpu, ok, extra):
    machine = with_gpu("A100", versions=versions) if on_gpu else without_gpu(versions=versions)

    line = line_of(machine, "onnxruntime")

    assert line.ok is ok
    assert extra in line.advice


@pytest.mark.parametrize(
    ("version", "driver_cuda", "ok"),
    [
        ("1.26.0", (12, 4), True),
        ("1.27.0", (12, 4), False),
        ("1.26.0", (13, 0), True),
        ("1.31.1", (13, 0), True),
    ],
)
def test_onnxruntime_gpu_fits_the_cuda_of_the_driver(with_gpu, line_of, version, driver_cuda, ok):
    machine = with_gpu("A100", extra={"onnxruntime-gpu": version}, driver_cuda=driver_cuda)

    line = line_of(machine, "onnxruntime")

    assert line.ok is ok
    assert line.gives["onnxruntime on CUDA"] is ok
    assert ok or line.advice.endswith("'onnxruntime-gpu[cuda,cudnn]<1.27'")


def test_an_onnxruntime_that_does_not_load_says_why(without_gpu, line_of):
    problem = "module 'onnxruntime' has no attribute 'get_available_providers'"

    line = line_of(without_gpu(import_problems={"onnxruntime": problem}), "onnxruntime")

    assert not line.ok
    assert line.found == f"1.32.0 (CPU build) does not load: {problem}"


def test_a_listed_provider_that_does_not_load_is_not_believed(with_gpu, without_gpu, line_of):
    broken = (Provider("CUDAExecutionProvider", "libcublasLt.so.13: cannot open"),)

    line = line_of(with_gpu("A100", providers=broken), "onnxruntime CUDA")
    elsewhere = line_of(without_gpu(providers=broken), "onnxruntime CUDA")

    assert not line.ok
    assert line.found == "listed, but does not load: libcublasLt.so.13: cannot open"
    assert line.advice.startswith("pip install 'segdeploy[onnxruntime-gpu]' 'onnxruntime-gpu[cuda")
    assert line.gives == {"onnxruntime on CUDA": False}
    assert elsewhere.advice.startswith("use --device cpu")


@pytest.mark.parametrize(
    ("gpu", "driver_cuda", "advice"),
    [
        ("A100", (13, 0), "pip install 'tensorrt-cu13<11'"),
        ("A100", (12, 4), "pip install 'tensorrt-cu12<11'"),
        ("V100", (12, 4), "nothing"),
    ],
)
def test_onnxruntimes_tensorrt_is_optional(with_gpu, line_of, gpu, driver_cuda, advice):
    broken = (Provider("TensorrtExecutionProvider", "libnvinfer.so.10: cannot open"),)

    line = line_of(with_gpu(gpu, providers=broken, driver_cuda=driver_cuda), "onnxruntime Tensorrt")

    assert line.advice.startswith(advice)
    assert line.gives == {}


def test_scarce_memory_and_disk_are_named(without_gpu, line_of):
    poor = without_gpu(memory_bytes=2 << 30, free_disk_bytes=1 << 30)

    assert not line_of(poor, "memory").ok
    assert not line_of(poor, "disk").ok
    assert line_of(without_gpu(memory_bytes=None), "memory").ok


def test_two_opencvs_overwrite_each_other(without_gpu, line_of):
    versions = {"opencv-python-headless": "5.0", "opencv-python": "4.9"}

    line = line_of(without_gpu(versions=versions), "opencv")

    assert not line.ok
    assert line.advice == (
        "pip uninstall -y opencv-python-headless opencv-python && "
        "pip install opencv-python-headless"
    )


def test_old_python_is_named(without_gpu, line_of):
    assert line_of(without_gpu(python=(3, 11, 0)), "python").ok
    assert not line_of(without_gpu(python=(3, 10, 14)), "python").ok
