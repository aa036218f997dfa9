"""The command `cpp`: where the sources of the C++ library are, for CMake."""

from typing import Annotated

import typer

from segdeploy.cli import printing
from segdeploy.errors import SegdeployError
from segdeploy.recipes import ROOT

SOURCES = ROOT / "cpp"
PACKAGE = SOURCES / "cmake" / "from-source"  # a find_package(segdeploy) that builds the sources


def cpp(
    cmake_dir: Annotated[
        bool, typer.Option("--cmake-dir", help="Print what segdeploy_DIR has to be, alone.")
    ] = False,
) -> None:
    """Say where the C++ library is, and how CMake finds it."""
    if not PACKAGE.is_dir():
        raise SegdeployError(
            f"{SOURCES}: is not there", hint="pip install --force-reinstall segdeploy"
        )
    if cmake_dir:
        print(PACKAGE)
    else:
        printing.show_facts(
            {
                "sources": SOURCES,
                "CMake": f"cmake -Dsegdeploy_DIR={PACKAGE}",
                "CMakeLists.txt": "find_package(segdeploy REQUIRED), then link segdeploy::runtime",
            }
        )
