"""What each command can do, read off the findings."""

import pytest

from segdeploy.doctor.abilities import NEEDS, judge_commands
from segdeploy.doctor.findings import diagnose
from segdeploy.doctor.probes import Provider


def missing(machine):
    return {
        ability.command: ability.missing
        for ability in judge_commands(diagnose(machine))
        if ability.missing
    }


def test_with_everything_every_command_runs(with_gpu):
    assert missing(with_gpu("A100")) == {}


def test_without_a_gpu_its_commands_say_what_they_lack(without_gpu):
    assert missing(without_gpu()) == {
        "build-engine --target tensorrt": ("tensorrt", "NVIDIA driver"),
        "predict --device cuda": ("onnxruntime on CUDA", "NVIDIA driver"),
        "bench --device cuda": ("torch on CUDA", "onnxruntime on CUDA", "NVIDIA driver"),
        "bench --runtime tensorrt-rtx": ("NVIDIA driver",),
        "bench --runtime tensorrt": ("tensorrt", "NVIDIA driver"),
    }


def test_without_torch_only_artifacts_run(without_gpu):
    versions = {"onnxruntime": "1.32.0", "opencv-python-headless": "5.0"}

    lacking = missing(without_gpu(versions=versions))

    assert lacking["export"] == ("torch",)
    assert lacking["build-engine --target tensorrt-rtx"] == ("torch", "tensorrt-rtx")
    assert "predict --device cpu" not in lacking


def test_a_provider_that_does_not_load_stops_its_commands(with_gpu):
    cpu = Provider("CPUExecutionProvider", "")
    broken = Provider("CUDAExecutionProvider", "libcudnn.so.9: cannot open")

    assert missing(with_gpu("A100", providers=(broken, cpu))) == {
        "predict --device cuda": ("onnxruntime on CUDA",),
        "bench --device cuda": ("onnxruntime on CUDA",),
    }


@pytest.mark.parametrize(
    ("machine", "command", "lack"),
    [
        ({"gone": ["cuda-python"]}, "bench --runtime tensorrt", ("a CUDA package",)),
        ({"driver_cuda": (12, 4)}, "build-engine --target tensorrt", ("tensorrt",)),
        (
            {"driver_cuda": (12, 4)},
            "bench --runtime tensorrt-rtx",
            ("tensorrt-rtx on this GPU", "a CUDA package"),
        ),
        (
            {"extra": {"pycuda": "2026.1"}, "import_problems": {"pycuda.driver": "broken"}},
            "bench --runtime tensorrt",
            ("a CUDA package",),
        ),
    ],
)
def test_a_package_that_does_not_fit_is_missing(with_gpu, machine, command, lack):
    assert missing(with_gpu("A100", **machine))[command] == lack


def test_a_finding_answers_for_each_need(without_gpu):
    answered = {need for line in diagnose(without_gpu(versions={})) for need in line.gives}

    assert answered == {need for needs in NEEDS.values() for need in needs}
