"""The library as a service finds it: installed, by pkg-config, or built with the service."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cpp_build import HEADERS, ROOT, run

from segdeploy.version import __version__

pytestmark = pytest.mark.xdist_group("cpp")
CONSUMER = ROOT / "cpp" / "tests" / "consumer"
SOURCES = ROOT / "cpp" / "cmake" / "from-source"


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


@pytest.mark.slow
def test_a_service_that_is_built_with_it_is_installed_with_it(build, tmp_path):
    place = tmp_path / "build"
    said = consume(
        place, f"-Dsegdeploy_DIR={SOURCES}", f"-DCMAKE_PREFIX_PATH={HEADERS.parent}",
        "-DCMAKE_CXX_FLAGS=-O0",
    )  # fmt: skip
    run("cmake", "--install", place, "--prefix", tmp_path / "prefix")
    shutil.rmtree(place)  # which the program would find its library in

    installed = {path.name for path in (tmp_path / "prefix").rglob("*") if path.is_file()}
    library = f"libsegdeploy.so.{__version__.rpartition('.')[0]}"
    assert installed == {"consumer", library, f"libsegdeploy.so.{__version__}"}
    assert run(tmp_path / "prefix" / "bin" / "consumer") == said


def test_sources_and_an_installed_library_have_the_same_versions(build, tmp_path):
    """Their version files alone, beside packages without anything."""
    sources, installed = tmp_path / "cpp" / "cmake" / "from-source", tmp_path / "installed"
    for folder, version_file in [
        (sources, SOURCES / "segdeployConfigVersion.cmake"),
        (installed, build / "segdeployConfigVersion.cmake"),
    ]:
        folder.mkdir(parents=True)
        shutil.copy(version_file, folder)
        (folder / "segdeployConfig.cmake").write_text("")
    shutil.copy(ROOT / "cpp" / "CMakeLists.txt", tmp_path / "cpp")
    asked = ["0.1", "0.1.0", "0.1.0;EXACT", "0.1.1", "0.0", "0.2", "1", "0.1...0.2", "0.1...<0.2",
             "0.0...0.2", "0.1.0...0.1.5", "0.2...0.3"]  # fmt: skip
    loops = [
        f"foreach(place {sources} {installed})\nset(segdeploy_DIR ${{place}})\n"
        f"find_package(segdeploy {request.replace(';', ' ')} QUIET)\n"
        f'message(STATUS "answer ${{segdeploy_FOUND}}")\nendforeach()\n'
        for request in asked
    ]
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(x NONE)\n" + "".join(loops)
    )

    said = run("cmake", "-S", tmp_path, "-B", tmp_path / "build")

    answers = re.findall(r"answer (\w+)", said)
    assert answers[::2] == answers[1::2]
    found = {request for request, answer in zip(asked, answers[::2], strict=True) if answer == "1"}
    assert found == {"0.1", "0.1.0", "0.1.0;EXACT", "0.1...<0.2", "0.1.0...0.1.5"}


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
