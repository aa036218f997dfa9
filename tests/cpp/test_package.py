"""The library as a service finds it: installed, by pkg-config, or built with the service."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cpp_build import ROOT, run

from segdeploy.version import __version__

pytestmark = pytest.mark.xdist_group("cpp")
CONSUMER = ROOT / "cpp" / "tests" / "consumer"


def consume(folder: Path, *options: str) -> str:
    """Build what a service would, and run it."""
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    run("cmake", "-S", CONSUMER, "-B", folder, *generator, *options)
    run("cmake", "--build", folder, "--parallel", "2")
    return run(folder / "consumer")


def test_it_is_installed_as_a_package(build, tmp_path):
    run("cmake", "--install", build, "--prefix", tmp_path / "prefix")

    said = consume(tmp_path / "build", f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}")

    assert said == f"onnxruntime {__version__}\n"
    program = tmp_path / "prefix" / "bin" / "segdeploy-run"  # which finds its library
    assert subprocess.run([program], capture_output=True).stderr.startswith(b"usage: segdeploy-run")


@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="needs pkg-config")
def test_pkg_config_knows_it(build, tmp_path):
    prefix = tmp_path / "prefix"
    run("cmake", "--install", build, "--prefix", prefix)
    found = next(prefix.rglob("segdeploy.pc")).parent
    environment = {**os.environ, "PKG_CONFIG_PATH": str(found)}

    flags = run("pkg-config", "--cflags", "--libs", "segdeploy", env=environment).split()
    program = tmp_path / "consumer"
    run("c++", "-std=c++17", CONSUMER / "consumer.cpp", "-o", program, *flags)

    library = found.parent  # where the loader does not look
    said = run(program, env={**os.environ, "LD_LIBRARY_PATH": str(library)})
    assert said == f"onnxruntime {__version__}\n"
    assert run("pkg-config", "--modversion", "segdeploy", env=environment).strip() == __version__


def test_missing_headers_are_named_with_a_hint(tmp_path):
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("needs cmake and a compiler")

    done = subprocess.run(
        ["cmake", "-S", ROOT / "cpp", "-B", tmp_path, "-DCMAKE_FIND_ROOT_PATH=/nowhere",
         "-DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY"],
        capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode != 0
    assert "nlohmann-json is missing: there is no nlohmann/json.hpp" in done.stderr
    assert "hint: apt install nlohmann-json3-dev" in done.stderr
