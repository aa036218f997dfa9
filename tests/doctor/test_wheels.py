"""Which wheels fit which GPU and driver, as a table."""

import pytest

from segdeploy.doctor.wheels import (
    Hardware,
    cuda_misfit,
    cuda_python_line,
    onnxruntime_line,
    parse_version,
    replacing,
    tensorrt_line,
    tensorrt_misfit,
    tensorrt_rtx_line,
    torch_line,
)

NO_GPU = Hardware()
PASCAL = Hardware((6, 0), (12, 4))
V100 = Hardware((7, 0), (12, 4))
V100_NEW_DRIVER = Hardware((7, 0), (13, 0))  # 580 is the last driver for it
T4_CUDA_12 = Hardware((7, 5), (12, 2))
A100_CUDA_12 = Hardware((8, 0), (12, 8))
A100_CUDA_13 = Hardware((8, 0), (13, 0))
B200_CUDA_12 = Hardware((10, 0), (12, 8))
OLD_DRIVER = Hardware((8, 0), (11, 4))
UNKNOWN_GPU = Hardware(None, (12, 4))  # without nvidia-smi

CU126 = "pip install torch --index-url https://download.pytorch.org/whl/cu126"


@pytest.mark.parametrize(
    ("hardware", "cuda"),
    [
        (NO_GPU, None),
        (PASCAL, 12),
        (V100, 12),
        (V100_NEW_DRIVER, 12),
        (T4_CUDA_12, 12),
        (A100_CUDA_13, 13),
        (Hardware((12, 0), (14, 1)), 13),
        (OLD_DRIVER, 12),
        (UNKNOWN_GPU, 12),
        (Hardware((8, 0), None), None),
    ],
)
def test_gpu_and_driver_decide_the_version_of_cuda(hardware, cuda):
    assert hardware.cuda == cuda


@pytest.mark.parametrize(
    ("hardware", "line"),
    [
        (NO_GPU, "pip install 'segdeploy[tensorrt]'"),
        (PASCAL, ""),
        (V100, "pip install 'tensorrt-cu12==10.4.0'"),
        (V100_NEW_DRIVER, "pip install 'tensorrt-cu12==10.4.0'"),
        (T4_CUDA_12, "pip install tensorrt-cu12"),
        (A100_CUDA_12, "pip install tensorrt-cu12"),
        (A100_CUDA_13, "pip install 'segdeploy[tensorrt]'"),
        (UNKNOWN_GPU, "pip install tensorrt-cu12"),
    ],
)
def test_line_for_tensorrt(hardware, line):
    assert tensorrt_line(hardware) == line


@pytest.mark.parametrize(
    ("hardware", "line"),
    [
        (NO_GPU, "pip install 'segdeploy[tensorrt-rtx]'"),
        (A100_CUDA_12, "pip install tensorrt-rtx-cu12"),
        (A100_CUDA_13, "pip install 'segdeploy[tensorrt-rtx]'"),
    ],
)
def test_line_for_tensorrt_rtx(hardware, line):
    assert tensorrt_rtx_line(hardware) == line


@pytest.mark.parametrize(
    ("hardware", "line"),
    [
        (NO_GPU, "pip install 'segdeploy[cuda]'"),
        (V100, "pip install 'segdeploy[cuda]' 'cuda-python<13'"),
        (V100_NEW_DRIVER, "pip install 'segdeploy[cuda]' 'cuda-python<13'"),
        (A100_CUDA_12, "pip install 'segdeploy[cuda]' 'cuda-python<13'"),
        (A100_CUDA_13, "pip install 'segdeploy[cuda]'"),
    ],
)
def test_line_for_cuda_python(hardware, line):
    assert cuda_python_line(hardware) == line


@pytest.mark.parametrize(
    ("hardware", "gpu", "line"),
    [
        (NO_GPU, False, "pip install 'segdeploy[onnxruntime]'"),
        (V100, True, "pip install 'segdeploy[onnxruntime-gpu]' 'onnxruntime-gpu[cuda,cudnn]<1.27'"),
        (
            A100_CUDA_13,
            True,
            "pip install 'segdeploy[onnxruntime-gpu]' 'onnxruntime-gpu[cuda,cudnn]'",
        ),
    ],
)
def test_line_for_onnxruntime(hardware, gpu, line):
    assert onnxruntime_line(hardware, gpu=gpu) == line


@pytest.mark.parametrize(
    ("hardware", "line"),
    [
        (NO_GPU, "pip install 'segdeploy[torch]'"),
        (V100, f"{CU126} && pip install 'segdeploy[torch]'"),
        (V100_NEW_DRIVER, f"{CU126} && pip install 'segdeploy[torch]'"),
        (A100_CUDA_12, f"{CU126} && pip install 'segdeploy[torch]'"),
        (A100_CUDA_13, "pip install 'segdeploy[torch]'"),
        (B200_CUDA_12, "pip install 'segdeploy[torch]'  # with driver 580 or newer"),
    ],
)
def test_line_for_torch(hardware, line):
    assert torch_line(hardware) == line


@pytest.mark.parametrize(
    ("hardware", "version", "problem"),
    [
        (NO_GPU, "11.4.0.106", ""),
        (A100_CUDA_13, "10.16.1.11", ""),
        (A100_CUDA_13, "8.6.1.post1", "wanted 10 or newer"),
        (V100, "10.4.0", ""),
        (V100, "10.0.1", ""),
        (V100, "10.5.0", "the last for compute capability 7.0 is 10.4.0"),
        (V100, "10.9.0.34", "the last for compute capability 7.0 is 10.4.0"),
        (PASCAL, "10.4.0", "none from 10 on knows compute capability 6.0"),
    ],
)
def test_tensorrt_fits_the_gpu_or_says_why_not(hardware, version, problem):
    assert tensorrt_misfit(hardware, version) == problem


@pytest.mark.parametrize(
    ("hardware", "built_for", "problem"),
    [
        (A100_CUDA_12, 12, ""),
        (A100_CUDA_13, 12, ""),
        (A100_CUDA_12, 13, "for CUDA 13; the driver ends at 12.8"),
        (OLD_DRIVER, 12, "for CUDA 12; the driver ends at 11.4"),
        (V100_NEW_DRIVER, 13, "for CUDA 13, which dropped this GPU"),
        (NO_GPU, 13, ""),
        (A100_CUDA_12, None, ""),
    ],
)
def test_wheels_fit_the_driver_or_say_why_not(hardware, built_for, problem):
    assert cuda_misfit(hardware, built_for) == problem


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("10.13.3.9.post1", (10, 13, 3, 9)), ("2.13.0+cpu", (2, 13, 0)), ("1.27.0rc1", (1, 27))],
)
def test_versions_are_read_up_to_the_first_letter(text, numbers):
    assert parse_version(text) == numbers


def test_what_shares_a_folder_goes_first():
    assert replacing(["a", "b"], "pip install c") == "pip uninstall -y a b && pip install c"
    assert replacing([], "pip install c") == "pip install c"
    assert replacing(["a"], "") == ""
