"""Where the tests of cpp/ find what a build needs, and how they run a command."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from segdeploy.spec import Size

ROOT = Path(__file__).parents[2]
HEADERS = Path(sys.prefix) / "cpp-headers" / "usr" / "include"  # cpp/ci/headers.sh puts them there
PLACES = (HEADERS, Path("/usr/include"), Path("/usr/local/include"))
SIZE = Size(64, 96)


def missing() -> str:
    """What a build needs and this machine lacks; "" if it has all."""
    tools = [name for name in ("cmake", "c++") if shutil.which(name) is None]
    headers = {
        "onnxruntime_c_api.h": ("onnxruntime", "onnxruntime/core/session", ""),
        "nlohmann/json.hpp": ("",),
        "stb_image.h": ("stb", ""),
    }
    absent = [
        name
        for name, folders in headers.items()
        if not any((place / folder / name).is_file() for place in PLACES for folder in folders)
    ]
    return ", ".join(tools + absent)


def lacks(need: str, reason: str) -> NoReturn:
    """Skip the test; or fail, where SEGDEPLOY_REQUIRE names the need: cpp or httplib."""
    if need in os.environ.get("SEGDEPLOY_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command: str | Path, **options: object) -> str:
    """What a command prints; a failure shows it."""
    done = subprocess.run(  # type: ignore[call-overload]
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout}"
    return str(done.stdout)


def project_version() -> str:
    """That the build files name."""
    text = (ROOT / "cpp" / "CMakeLists.txt").read_text()
    found = re.search(r"project\(segdeploy VERSION ([\d.]+)", text)
    assert found is not None
    return found[1]
