"""What the machine says of itself, and what doctor makes of it."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from segdeploy import environment
from segdeploy.environment import Finding, Gpu, describe_environment, diagnose, query_gpus

TWO_GPUS = "NVIDIA A100-SXM4-80GB, 580.95.05, 8.0, 81920\nNVIDIA GB10, 580.95.05, 12.1, [N/A]\n"
A100 = Gpu("NVIDIA A100-SXM4-80GB", "580.95.05", "8.0", 81920 << 20)
V100 = Gpu("Tesla V100-SXM2-16GB", "550.54", "7.0", 16384 << 20)


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, says: str, status: int = 0) -> Path:
    """Put a program named nvidia-smi, alone, on PATH; it keeps its arguments beside it."""
    (folder / "answer").write_text(says)
    program = folder / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {folder}/arguments\n/bin/cat {folder}/answer\nexit {status}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder / "arguments"


def finding(name: str, driver_problem: str | None = "no driver") -> Finding:
    return next(line for line in diagnose(driver_problem) if line.name == name)


def test_environment_names_machine_and_versions() -> None:
    described = describe_environment()

    assert described.cpu
    assert 1 <= described.usable_cores <= described.logical_cores
    assert described.memory_bytes is None or described.memory_bytes > 1 << 28
    assert dict(described.versions)["numpy"] == metadata.version("numpy")
    assert json.loads(json.dumps(described.to_dict()))["versions"]["segdeploy"]


def test_environment_tells_no_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    text = json.dumps(describe_environment().to_dict())

    assert str(tmp_path) not in text
    assert sys.prefix not in text


def test_versions_are_read_without_an_import() -> None:
    code = (
        "import sys; from segdeploy.environment import diagnose, describe_environment;"
        "describe_environment(); diagnose(None);"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'tensorrt', 'tensorrt_rtx', 'cv2', 'numpy'};"
        "sys.exit(','.join(heavy & sys.modules.keys()) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_each_gpu_of_nvidia_smi_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = nvidia_smi(tmp_path, monkeypatch, TWO_GPUS)

    gpus, problem = query_gpus()

    assert problem == ""
    assert gpus == (A100, Gpu("NVIDIA GB10", "580.95.05", "12.1", None))
    assert "--query-gpu=name,driver_version,compute_cap,memory.total" in arguments.read_text()


def test_machine_without_nvidia_smi_has_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    gpus, problem = query_gpus()

    assert gpus == ()
    assert problem == "nvidia-smi is not installed"


def test_broken_driver_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580\n"
    nvidia_smi(tmp_path, monkeypatch, said, status=18)

    line = finding("GPU")

    assert not line.ok
    assert "exited with 18" in line.found
    assert "Driver/library version mismatch" in line.found


def test_diagnosis_has_a_line_for_each_part() -> None:
    names = [line.name for line in diagnose(None)]

    assert names == [
        "python", "torch", "onnxruntime", "tensorrt", "tensorrt-rtx", "NVIDIA driver", "GPU",
        "memory", "disk", "opencv",
    ]  # fmt: skip


def test_whatever_is_not_ok_comes_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_version", lambda package: "")

    lines = {line.name: line for line in diagnose("libcuda.so.1 is missing")}

    assert all(line.advice for line in lines.values() if not line.ok)
    assert lines["torch"].advice == "pip install 'segdeploy[torch]'"
    assert lines["tensorrt"].advice == "pip install 'segdeploy[tensorrt]'"
    assert lines["tensorrt-rtx"].advice == "pip install 'segdeploy[tensorrt-rtx]'"
    assert lines["opencv"].advice == "pip install opencv-python-headless"
    assert lines["NVIDIA driver"].found == "libcuda.so.1 is missing"


def test_working_driver_shows_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, TWO_GPUS)

    line = finding("NVIDIA driver", driver_problem=None)

    assert line == Finding("NVIDIA driver", True, "580.95.05")


def test_both_onnxruntimes_together_are_broken() -> None:
    line = environment._onnxruntime("1.24.0", "1.24.0", has_gpu=True)

    assert not line.ok
    assert line.advice.startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install")
    assert "[onnxruntime-gpu]" in line.advice


@pytest.mark.parametrize(
    ("cpu", "gpu", "has_gpu", "ok", "extra"),
    [
        ("1.24.0", "", False, True, ""),
        ("", "1.24.0", True, True, ""),
        ("", "1.24.0", False, True, ""),
        ("1.24.0", "", True, False, "[onnxruntime-gpu]"),
        ("", "", True, False, "[onnxruntime-gpu]"),
        ("", "", False, False, "[onnxruntime]"),
    ],
)
def test_onnxruntime_fits_the_machine(
    cpu: str, gpu: str, has_gpu: bool, ok: bool, extra: str
) -> None:
    line = environment._onnxruntime(cpu, gpu, has_gpu)

    assert line.ok is ok
    assert extra in line.advice


def test_cpu_torch_is_right_only_without_a_gpu() -> None:
    assert environment._torch("2.13.0+cpu", "", has_gpu=False).ok
    assert environment._torch("2.13.0", "13.0", has_gpu=True).ok
    assert not environment._torch("2.13.0+cpu", "", has_gpu=True).ok


def test_torch_build_read_from_its_file_is_what_torch_says() -> None:
    torch = pytest.importorskip("torch")

    assert environment._torch_cuda() == (torch.version.cuda or "")


def test_cuda_build_of_torch_is_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "torch-2.13.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/version.py").write_text(
        "from typing import Optional\n__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    assert environment._torch_cuda() == "13.0"


def test_gpu_too_old_for_current_tensorrt_is_named() -> None:
    line = environment._gpu([V100], "")

    assert not line.ok
    assert "7.0" in line.found
    assert line.advice.endswith("pip install 'tensorrt<10.5'")
    assert environment._gpu([V100, A100], "").ok


def test_scarce_memory_and_disk_are_named() -> None:
    assert not environment._memory(2 << 30).ok
    assert not environment._disk(1 << 30).ok
    assert environment._memory(16 << 30).ok
    assert environment._disk(16 << 30).ok


def test_two_opencvs_overwrite_each_other() -> None:
    line = environment._opencv([("opencv-python-headless", "5.0"), ("opencv-python", "4.9")])

    assert not line.ok
    assert line.advice.startswith("pip uninstall -y opencv-python-headless opencv-python && ")
    assert line.advice.endswith("pip install opencv-python-headless")


def test_old_python_is_named() -> None:
    assert environment._python((3, 11, 0)).ok
    assert not environment._python((3, 10, 14)).ok
