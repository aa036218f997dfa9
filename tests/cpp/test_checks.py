"""Of `make cpp-check`, which takes ten minutes, what takes one."""

import shutil
import subprocess

import pytest
from cpp_build import ROOT, run

LAYOUT = "version 14."  # of clang-format: another version has other opinions


@pytest.mark.slow
@pytest.mark.xdist_group("cpp-sanitized")  # beside the other tests of cpp/
def test_its_own_tests_pass_under_sanitizers(build_with):
    build = build_with(
        "cpp-sanitized",
        "-DSEGDEPLOY_SANITIZE=address,undefined",
        "-DSEGDEPLOY_TOOLS=OFF",
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_CXX_FLAGS=-O0",
    )

    assert "100% tests passed" in run("ctest", "--output-on-failure", cwd=build)


def test_every_source_is_laid_out_by_clang_format():
    program = shutil.which("clang-format")
    if program is None or LAYOUT not in subprocess.check_output([program, "--version"], text=True):
        pytest.skip(f"needs clang-format, {LAYOUT}x")
    sources = [path for kind in ("*.cpp", "*.hpp", "*.h") for path in (ROOT / "cpp").rglob(kind)]

    run(program, "--dry-run", "--Werror", *sources)
