"""What is built from cpp/: its own tests, segdeploy-run, the examples, the installed package."""

import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from c_library import ONNXRUNTIME
from cpp_build import ROOT, SIZE, project_version, run

import segdeploy
from segdeploy.images import overlay, read_image, read_labels, write_png
from segdeploy.pipeline.engines import build_engine
from segdeploy.runtime.onnxruntime import VERSION
from segdeploy.spec import Method, Precision, Runtime
from segdeploy.version import __version__

pytestmark = pytest.mark.xdist_group("cpp")
CONSUMER = ROOT / "cpp" / "tests" / "consumer"


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


def segdeploy_run(build, *arguments, **options):
    return subprocess.run(
        [build / "tools" / "segdeploy-run", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "SEGDEPLOY_ONNXRUNTIME": str(ONNXRUNTIME)},
        **options,
    )


def test_segdeploy_run_writes_what_python_returns(build, engine, frames, tmp_path):
    images = sorted(frames.iterdir())

    done = segdeploy_run(build, engine.path, *images, "-o", tmp_path, "--overlay")

    assert (done.returncode, done.stderr) == (0, "")
    assert [Path(line.split()[0]).name for line in done.stdout.splitlines()] == ["0.png", "1.png"]
    with segdeploy.open(engine.path) as opened, opened.session() as session:
        for path in images:
            image = read_image(path)
            labels = session.run(image[None])[0]
            assert np.array_equal(read_labels(tmp_path / path.name), labels)
            painted = read_image(tmp_path / f"{path.stem}-overlay.png")
            assert np.array_equal(painted, overlay(image, labels, engine.manifest.classes))


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["ENGINE"], 2, "usage: segdeploy-run"),
        (["ENGINE", "IMAGE", "-o"], 2, "usage: segdeploy-run"),
        (["ENGINE", "IMAGE", "-o", "OUT", "--threads", "-1"], 2, "usage: segdeploy-run"),
        (["ENGINE", "IMAGE", "-o", "OUT", "--batch"], 2, "usage: segdeploy-run"),
        (["no.ort", "IMAGE", "-o", "OUT"], 1, "error: no.ort: no such file\nhint: "),
        (["ENGINE", "no.png", "-o", "OUT"], 1, "error: no.png: no such file"),
        (["ENGINE", "ENGINE", "-o", "OUT"], 1, "not an image, or a damaged one"),
        (["ENGINE", "IMAGE", "-o", "FRAMES"], 1, "0.png: is an image to segment\nhint: -o"),
        (["ENGINE", "IMAGE", "IMAGE", "-o", "OUT"], 1, "two of the images would be written there"),
        (["ENGINE", "IMAGE", "-o", "ENGINE"], 1, "cannot be written"),
        (["ENGINE", "IMAGE", "-o", "OUT", "--device", "cuda:0"], 1, "is optimized for the CPU"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_segdeploy_run_says_what_is_wrong(
    arguments, code, problem, build, engine, frames, tmp_path
):
    places = {
        "ENGINE": engine.path,
        "IMAGE": frames / "0.png",
        "FRAMES": frames,
        "OUT": tmp_path / "out",
    }

    done = segdeploy_run(build, *(places.get(word, word) for word in arguments))

    assert done.returncode == code
    assert problem in done.stderr
    assert not (tmp_path / "out" / "0.png").exists()


def test_segdeploy_run_refuses_an_image_of_another_size(build, engine, tmp_path):
    write_png(tmp_path / "small.png", np.zeros((32, 32, 3), np.uint8))

    done = segdeploy_run(build, engine.path, tmp_path / "small.png", "-o", tmp_path / "out")

    assert done.returncode == 1
    assert "an image batch is 1x32x32x3; the engine takes 1x64x96x3" in done.stderr


def test_a_file_too_large_for_memory_is_refused(build, tmp_path):
    path, size = tmp_path / "large.onnx", 64 * 2**30
    with path.open("wb") as file:
        file.truncate(size)  # which takes no room on the disk
    limit = (8 * 2**30,) * 2

    done = segdeploy_run(
        build, path, "no.png", "-o", tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )  # fmt: skip

    assert done.stderr == f"error: {path}: has {size} bytes, more than there is memory\n"
    assert done.returncode == 1


def test_the_minimal_example_counts_every_pixel(build, engine):
    program = build / "examples" / "minimal"

    lines = run(program, engine.path, ONNXRUNTIME).splitlines()

    counts = {name: int(number) for name, number in (line.rsplit(" ", 1) for line in lines)}
    assert sum(counts.values()) == SIZE.height * SIZE.width
    assert set(counts) <= set(engine.manifest.classes.names)


def test_the_minimal_example_has_twenty_lines():
    code = (ROOT / "cpp" / "examples" / "minimal.cpp").read_text().splitlines()

    assert len([line for line in code if line.strip() and not line.startswith("//")]) <= 22


COUNTS = re.compile(r"read (\d+), labelled (\d+), dropped (\d+), failed (\d+)")


def test_the_camera_service_loses_no_frame_unseen(build, engine):
    program = build / "examples" / "camera_service"

    counts = COUNTS.fullmatch(run(program, engine.path, ONNXRUNTIME, "60").strip())

    assert counts is not None
    read, labelled, dropped, failed = map(int, counts.groups())
    assert (read, failed) == (60, 0)
    assert labelled + dropped == read
    assert labelled > 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_camera_service_stops_gracefully(sign, build, engine):
    program = build / "examples" / "camera_service"
    service = subprocess.Popen([program, engine.path, ONNXRUNTIME], stdout=subprocess.PIPE)
    while service.poll() is None and not catches(service.pid, sign):
        time.sleep(0.01)
    time.sleep(0.2)  # for some frames

    service.send_signal(sign)
    said = service.communicate(timeout=20)[0].decode()

    assert service.returncode == 0
    counts = COUNTS.fullmatch(said.strip())
    assert counts is not None
    read, labelled, dropped, failed = map(int, counts.groups())
    assert (labelled + dropped, failed) == (read, 0)  # what was queued is done


def catches(process: int, sign: signal.Signals) -> bool:
    """Whether it has a handler of its own for the signal, which would end it otherwise."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (sign - 1) & 1)


def test_the_http_service_labels_what_is_posted(build, engine, blocks):
    program = build / "examples" / "http_service"
    if not program.is_file():
        pytest.skip("needs cpp-httplib")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = subprocess.Popen([program, engine.path, ONNXRUNTIME, str(port)])
    image = blocks(SIZE)[0]
    try:
        assert answer(port, "GET", "/health", b"", tries=100) == (200, b"ready\n")
        labels = answer(port, "POST", "/segment", image.tobytes())
        wrong = answer(port, "POST", "/segment", b"short")
    finally:
        service.send_signal(signal.SIGTERM)

    assert service.wait(timeout=20) == 0
    with segdeploy.open(engine.path) as opened, opened.session() as session:
        assert labels == (200, session.run(image[None]).tobytes())
    assert wrong == (400, b"wanted 18432 bytes of RGB\n")


def answer(port, method, path, body, tries=1):
    """Status and body; a service that is starting is asked again."""
    for left in reversed(range(tries)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            return response.status, response.read()
        except ConnectionRefusedError:
            if not left:
                raise
            time.sleep(0.05)
        finally:
            connection.close()
    return None


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


HEADERS_OF_TENSORRT = {
    "10.9.0": "#define NV_TENSORRT_MAJOR 10 //!< major\n#define NV_TENSORRT_MINOR 9\n"
    "#define NV_TENSORRT_PATCH 0\n#define NV_TENSORRT_BUILD 34\n",
    "10.16.1": "#define TRT_MAJOR_ENTERPRISE 10\n#define TRT_MINOR_ENTERPRISE 16\n"
    "#define TRT_PATCH_ENTERPRISE 1\n#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE //!< major\n"
    "#define NV_TENSORRT_MINOR TRT_MINOR_ENTERPRISE\n",
    "8.6.1": "#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 6\n"
    "#define NV_TENSORRT_PATCH 1\n",
}


@pytest.mark.parametrize("version", HEADERS_OF_TENSORRT)
def test_both_forms_of_tensorrts_version_are_read(version, tmp_path, build):
    include = tmp_path / "include"
    include.mkdir()
    (include / "NvInferRuntime.h").write_text("")
    (include / "NvInferVersion.h").write_text(HEADERS_OF_TENSORRT[version])
    (tmp_path / "libnvinfer.so").write_text("")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(x NONE)\n"
        f'list(APPEND CMAKE_MODULE_PATH "{ROOT}/cpp/cmake")\nfind_package(TensorRT 10)\n'
        'message(STATUS "found ${TensorRT_FOUND} ${TensorRT_VERSION}")\n'
    )

    said = run(
        "cmake", "-S", tmp_path, "-B", tmp_path / "build",
        f"-DTensorRT_INCLUDE_DIR={include}", f"-DTensorRT_LIBRARY={tmp_path / 'libnvinfer.so'}",
    )  # fmt: skip

    is_new = version != "8.6.1"
    assert f"found {str(is_new).upper()} {version}" in said


def test_the_onnxruntime_of_the_wheel_is_the_one_that_ran():
    assert VERSION in ONNXRUNTIME.name
