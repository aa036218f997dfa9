"""The promises that keep the code easy to see and change."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "segdeploy"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda", "cuda", "cv2"}
HEAVY |= {"onnx_ir", "numba", "matplotlib", "jinja2"}


def test_importing_the_command_line_loads_no_heavy_package():
    program = "import sys, segdeploy.cli; print(*sys.modules)"

    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()

    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_fits_its_budget(module):
    assert len(module.read_text().splitlines()) <= 400


def test_only_the_owner_imports_tensorrt():
    importers = [m for m in MODULES if "import_module" in m.read_text()]

    assert importers == [PACKAGE / "nvinfer.py"]
