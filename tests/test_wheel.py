"""What pip installs: the package, its data folders, and the sources of the C++ library."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from cpp_build import HEADERS, ROOT, lacks, missing, run

from segdeploy.environment import source_sha256

pytest.importorskip("hatchling", reason="needs hatchling, which makes the wheel")
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel in it, unpacked as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["models", "calibration", "benchmarks/suites", "cpp"])
def test_every_file_of_a_folder_is_in_it(name, site):
    packaged = files_of(site / "segdeploy" / "data" / name)

    own = {path: content for path, content in files_of(ROOT / name).items() if "build/" not in path}
    assert packaged == own
    assert packaged


def test_its_modules_have_the_hash_of_the_checkout(site):
    """A lock fits either."""
    assert source_sha256(site / "segdeploy") == source_sha256()


def test_cmake_builds_the_library_from_where_it_was_installed(site, tmp_path):
    """Only configured: its sources are compiled by the other tests."""
    if lacking := missing():
        lacks("cpp", f"configuring cpp/ needs {lacking}")
    command = [sys.executable, "-m", "segdeploy", "cpp", "--cmake-dir"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    package = subprocess.check_output(command, env=environment, cwd=tmp_path, text=True).strip()

    run(
        "cmake", "-S", ROOT / "cpp" / "tests" / "consumer", "-B", tmp_path,
        f"-Dsegdeploy_DIR={package}", f"-DCMAKE_PREFIX_PATH={HEADERS.parent}",
    )  # fmt: skip

    assert Path(package).is_relative_to(site)
    targets = run("cmake", "--build", tmp_path, "--target", "help")
    assert "segdeploy_runtime" in targets
    assert "segdeploy-run" not in targets  # tools are for whoever builds cpp/ itself
