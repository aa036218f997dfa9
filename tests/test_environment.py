"""What the machine says of itself."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from segdeploy.environment import Gpu, describe_environment, gibibytes, query_gpus

TWO_GPUS = "NVIDIA A100-SXM4-80GB, 580.95.05, 8.0, 81920\nNVIDIA GB10, 580.95.05, 12.1, [N/A]\n"
A100 = Gpu("NVIDIA A100-SXM4-80GB", "580.95.05", "8.0", 81920 << 20)


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
        "import sys; from segdeploy.environment import describe_environment;"
        "describe_environment();"
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

    gpus, problem = query_gpus()

    assert gpus == ()
    assert problem == (
        "nvidia-smi exited with 18 and said: "
        "Failed to initialize NVML: Driver/library version mismatch"
    )


def test_sizes_are_written_for_people() -> None:
    assert gibibytes(3 << 29) == "1.5 GiB"
    assert gibibytes(None) == ""
