"""Which package talks to CUDA, and what is said of one that is missing or broken."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from segdeploy import cuda
from segdeploy.cuda import seam
from segdeploy.cuda.seam import CudaPackage, open_gpu
from segdeploy.errors import SegdeployError

AUTO, PYCUDA, CUDA_PYTHON = CudaPackage.AUTO, CudaPackage.PYCUDA, CudaPackage.CUDA_PYTHON


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of our modules, whose GPUs are their own name and an index."""
    for name in ("pycuda", "cuda_python"):
        module = SimpleNamespace(Gpu=lambda index, name=name: (name, index))
        monkeypatch.setitem(sys.modules, f"segdeploy.cuda.{name}", module)
        monkeypatch.setattr(cuda, name, module, raising=False)


@pytest.mark.parametrize(
    ("asked", "has_pycuda", "opened"),
    [
        (AUTO, True, "pycuda"),
        (AUTO, False, "cuda_python"),
        (PYCUDA, True, "pycuda"),
        (CUDA_PYTHON, True, "cuda_python"),
    ],
)
def test_pycuda_is_taken_where_it_is_installed_and_nothing_else_is_asked_for(
    both, monkeypatch, asked, has_pycuda, opened
):
    monkeypatch.setattr(seam, "find_spec", lambda name: object() if has_pycuda else None)

    assert open_gpu(3, asked) == (opened, 3)


@pytest.mark.parametrize(
    ("package", "module", "missing", "extra"),
    [(PYCUDA, "pycuda", "pycuda", "pycuda"), (CUDA_PYTHON, "cuda_python", "cuda", "cuda")],
)
def test_a_missing_package_names_the_extra_that_brings_it(
    monkeypatch, package, module, missing, extra
):
    monkeypatch.delitem(sys.modules, f"segdeploy.cuda.{module}", raising=False)
    monkeypatch.delattr(cuda, module, raising=False)
    for name in [missing, *(name for name in sys.modules if name.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(SegdeployError, match=f"needs the package {missing}, ") as caught:
        open_gpu(0, package)

    assert caught.value.hint == f"pip install 'segdeploy[{extra}]'"


@pytest.fixture
def broken_pycuda(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed pycuda whose shared library is missing."""
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    (tmp_path / "pycuda" / "driver.py").write_text("raise ImportError('libcurand.so.10: no file')")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("pycuda", None)


def test_a_pycuda_that_does_not_load_is_an_error_and_not_passed_over(broken_pycuda):
    with pytest.raises(SegdeployError, match=r"pycuda is installed .* \(libcurand") as caught:
        open_gpu(0)

    assert caught.value.hint == "pip install --force-reinstall 'segdeploy[pycuda]'"
