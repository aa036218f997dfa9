"""What is asked of a machine."""

import subprocess
import sys
from importlib import metadata

import pytest

from segdeploy.doctor import machine as module
from segdeploy.doctor.machine import examine_machine, torch_cuda


def test_examining_a_machine_loads_no_heavy_package():
    code = (
        "import sys; from segdeploy.doctor.machine import examine_machine;"
        "from segdeploy.doctor.findings import diagnose;"
        "from segdeploy.doctor.abilities import judge_commands;"
        "judge_commands(diagnose(examine_machine()));"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'tensorrt', 'tensorrt_rtx', 'cv2', 'numpy',"
        " 'cuda', 'pycuda'};"
        "sys.exit(','.join(heavy & sys.modules.keys()) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_what_is_installed_is_what_pip_says():
    machine = examine_machine()

    assert machine.versions["numpy"] == metadata.version("numpy")
    assert machine.python == sys.version_info[:3]
    assert set(machine.import_problems) >= {
        name
        for name in ("onnxruntime", "tensorrt_rtx")
        if name.replace("_", "-") in machine.versions
    }


def test_only_what_is_installed_is_imported(monkeypatch):
    tried = []
    installed = {"cuda-python": "13.4.4", "tensorrt": "11.4", "tensorrt-cu13": "11.4"}
    monkeypatch.setattr(module, "installed_version", lambda name: installed.get(name, ""))
    monkeypatch.setattr(module, "import_problem", lambda name: tried.append(name) or "")
    monkeypatch.setattr(module, "try_providers", lambda: pytest.fail("there is none"))

    machine = examine_machine()

    assert sorted(tried) == ["cuda.bindings.runtime", "tensorrt"]
    assert machine.versions == installed


def test_the_best_gpu_decides(with_gpu):
    hardware = with_gpu("V100", "A100", "T4").hardware

    assert hardware.capability == (8, 0)
    assert hardware.driver_cuda == (13, 0)


def test_a_driver_is_a_gpu_where_nvidia_smi_is_missing(with_gpu, without_gpu):
    assert with_gpu(gpu_problem="nvidia-smi is not installed").has_gpu
    assert with_gpu("A100", driver_problem="it does not start").has_gpu
    assert not without_gpu().has_gpu


def test_torch_build_read_from_its_file_is_what_torch_says():
    torch = pytest.importorskip("torch")

    assert torch_cuda() == (torch.version.cuda or "")


def test_cuda_build_of_torch_is_recognized(tmp_path, monkeypatch):
    info = tmp_path / "torch-2.13.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/version.py").write_text(
        "from typing import Optional\n__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    assert torch_cuda() == "13.0"
