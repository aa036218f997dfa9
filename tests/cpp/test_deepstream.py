"""The parser for DeepStream as its folder compiles it, against declarations of its documents.

What it does is tested in cpp/tests/test_deepstream.cpp.
"""

import ctypes
import shutil

import pytest
from cpp_build import ROOT, run

from segdeploy.deepstream.configuration import FUNCTION, LIBRARY, NvinferOptions
from segdeploy.pipeline.deepstream import export_deepstream
from segdeploy.spec import Method

pytestmark = pytest.mark.xdist_group("cpp")
DECLARATIONS = ROOT / "cpp" / "tests" / "deepstream"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_folder_compiles_what_its_configuration_names(build, exported, tmp_path):
    export_deepstream(exported(Method.FCN).path, tmp_path / "out", NvinferOptions())

    run("make", "-C", tmp_path / "out", f"INCLUDES=-I{DECLARATIONS}", "CXX=c++ -Werror")

    assert hasattr(ctypes.CDLL(tmp_path / "out" / LIBRARY), FUNCTION)
