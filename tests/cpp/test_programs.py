"""What is built from cpp/: its own tests, its version, its header, what it allocates."""

import json

import pytest
from c_library import ONNXRUNTIME
from cpp_build import ROOT, project_version, run

from segdeploy.pipeline.engines import build_engine
from segdeploy.runtime.onnxruntime import VERSION
from segdeploy.spec import Method, Precision, Runtime
from segdeploy.version import __version__

pytestmark = pytest.mark.xdist_group("cpp")


def test_it_has_the_version_of_the_package(library):
    assert library.c.segdeploy_version().decode() == project_version() == __version__
    assert library.c.segdeploy_abi() == 1


def test_what_it_says_of_an_engine_is_in_the_manifest(engine, library):
    with library.open(engine.path) as opened:
        facts, c = opened.facts, library.c
        names = [c.segdeploy_class_name(opened.handle, k).decode() for k in range(facts.classes)]
        colours = [c.segdeploy_class_color(opened.handle, k) for k in range(-1, facts.classes + 1)]

    manifest = engine.manifest
    assert (facts.model.decode(), facts.runtime.decode()) == (manifest.model, "onnxruntime")
    assert (facts.device, facts.returns_logits, facts.logits_stride) == (b"cpu", 0, 8)
    assert (facts.height, facts.width, facts.batch) == (*manifest.size, 1)
    assert tuple(names) == manifest.classes.names
    palette = [r << 16 | g << 8 | b for r, g, b in manifest.classes.palette]
    assert colours == [-1, *palette, -1]


def test_its_own_tests_pass(build):
    assert "100% tests passed" in run("ctest", "--output-on-failure", cwd=build)


def test_memory_that_runs_out_leaves_a_session_in_order(build, exported, tmp_path):
    graph = exported(Method.FCN, size=None)
    engine = build_engine(graph, Runtime.ONNXRUNTIME, tmp_path / "any.ort").plan

    run(build / "tests" / "shortage", engine.path, ONNXRUNTIME)


def test_the_c_header_is_c(build):
    header = ROOT / "cpp" / "include" / "segdeploy.h"

    run("c++", "-x", "c", "-std=c99", "-pedantic", "-Wall", "-Werror", "-fsyntax-only", header)


@pytest.mark.parametrize("kind", ["graph", "engine"])
def test_a_session_allocates_nothing_beside_the_runtime(kind, build, artifacts):
    """Both call ONNX Runtime equally often, which allocates the same each time."""
    path = artifacts(Method.FCN, Precision.FP32)[kind].path

    costs = json.loads(run(build / "benchmarks" / "overhead", path, ONNXRUNTIME, "20"))

    assert costs["calls"] == 20
    assert costs["bare_allocations"] > 0  # the counter counts
    assert costs["session_allocations"] == costs["bare_allocations"]


HEADERS_OF_TENSORRT = {
    "10.9.0": "#define NV_TENSORRT_MAJOR 10 //!< major\n#define NV_TENSORRT_MINOR 9\n"
    "#define NV_TENSORRT_PATCH 0\n#define NV_TENSORRT_BUILD 34\n",
    "10.16.1": "#define TRT_MAJOR_ENTERPRISE 10\n#define TRT_MINOR_ENTERPRISE 16\n"
    "#define TRT_PATCH_ENTERPRISE 1\n#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE //!< major\n"
    "#define NV_TENSORRT_MINOR TRT_MINOR_ENTERPRISE\n",
    "8.6.1": "#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 6\n"
    "#define NV_TENSORRT_PATCH 1\n",
    "1.7.1": "#define TRT_MAJOR_RTX 1\n#define TRT_MINOR_RTX 7\n#define TRT_PATCH_RTX 1\n"
    "#define NV_TENSORRT_MAJOR TRT_MAJOR_RTX //!< major\n",
    "1.0.0": "#define TRT_MAJOR_RTX 1\n#define TRT_MINOR_RTX 0\n#define TRT_PATCH_RTX 0\n",
}
TOO_OLD = ("8.6.1", "1.0.0")


@pytest.mark.parametrize("version", HEADERS_OF_TENSORRT)
def test_each_form_of_tensorrts_version_is_read(version, tmp_path, build):
    include = tmp_path / "include"
    include.mkdir()
    (include / "NvInferRuntime.h").write_text("")
    (include / "NvInferVersion.h").write_text(HEADERS_OF_TENSORRT[version])
    (tmp_path / "libnvinfer.so").write_text("")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(x NONE)\n"
        f'list(APPEND CMAKE_MODULE_PATH "{ROOT}/cpp/cmake")\nfind_package(TensorRT)\n'
        'message(STATUS "found ${TensorRT_FOUND} ${TensorRT_VERSION} ${TensorRT_IS_RTX}")\n'
    )

    said = run(
        "cmake", "-S", tmp_path, "-B", tmp_path / "build",
        f"-DTensorRT_INCLUDE_DIR={include}", f"-DTensorRT_LIBRARY={tmp_path / 'libnvinfer.so'}",
    )  # fmt: skip

    is_new, is_rtx = version not in TOO_OLD, version.startswith("1.")
    assert f"found {is_new} {version} {is_rtx}".upper() in said.upper()
    assert ("Found unsuitable version" in said) is not is_new


def test_the_onnxruntime_of_the_wheel_is_the_one_that_ran():
    assert VERSION in ONNXRUNTIME.name
