"""`build-engine` with TensorRT's options, built for real by TensorRT-RTX."""

import json
import shutil
import subprocess
import sys

import pytest

from segdeploy.cli.engine_options import parse_shapes
from segdeploy.shapes import ShapeProfile
from segdeploy.spec import INPUT

pytest.importorskip("tensorrt_rtx")
RTX = ("--target", "tensorrt-rtx")
SHAPES = ("--shapes", "1x32x64,1x64x96,2x128x128", "--shapes", "64x96")


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        (
            "1x256x512,1x512x1024,4x1024x2048",
            ((1, 256, 512, 3), (1, 512, 1024, 3), (4, 1024, 2048, 3)),
        ),
        ("256x512,512x1024,512x1024", ((1, 256, 512, 3), (1, 512, 1024, 3), (1, 512, 1024, 3))),
        ("4x512x1024", ((4, 512, 1024, 3),) * 3),
    ],
)
def test_shapes_are_images_of_a_batch_or_single_ones(text, shapes):
    low, usual, high = shapes

    assert parse_shapes(text) == (ShapeProfile(tensor=INPUT, min=low, opt=usual, max=high),)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--shapes", "512x1024,1024x2048"),
        ("--shapes", "512"),
        ("--shapes", "1x512x1024x3"),
        ("--hardware-compatible", "turing"),
        ("--verbosity", "loud"),
        ("--dry-run", "--save-log", "build.log"),
        ("--int8", "--min-miou", "99%", "--dry-run"),
        ("--int8", "--min-miou", "99%", "--shapes", "512x1024"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(segdeploy, arguments):
    ended = segdeploy("build-engine", "demo", *RTX, *arguments)

    assert ended.code == 2
    assert ended.out == ""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--version-compatible",), "TensorRT-RTX has no version-compatible plans"),
        (("--hardware-compatible", "ampere-plus"), "TensorRT-RTX has no hardware level"),
        (("--shapes", "32x64"), "takes 1x64x96 and nothing else"),
    ],
)
def test_what_cannot_be_built_ends_with_1_and_two_lines(
    segdeploy, inside, graph, arguments, problem
):
    segdeploy("build-engine", graph, *RTX, *arguments).assert_error(problem)


def test_onnxruntime_takes_none_of_them(segdeploy, inside, graph):
    ended = segdeploy("build-engine", graph, "--target", "onnxruntime", "--sparsity")

    ended.assert_error("are TensorRT's; onnxruntime has none of them")
    segdeploy("build-engine", graph, "--target", "onnxruntime", "--dry-run").assert_error(
        "--dry-run is about TensorRT's"
    )


@pytest.mark.slow
def test_a_dry_run_says_what_a_build_does(segdeploy, inside):
    asked = ("build-engine", "tiny.toml", *RTX, *SHAPES, "--sparsity")

    before = json.loads(segdeploy(*asked, "--dry-run", "--json").out)
    shown = segdeploy(*asked, "--dry-run").out
    engine = inside / before["engine"]
    was_there = engine.exists()
    built = json.loads(segdeploy(*asked, "--json").out)
    after = segdeploy(*asked, "--dry-run").out

    assert before["graph"].endswith("fp32-dynamic-batchN.onnx")  # of which there is one now
    assert (inside / before["graph"]).is_file()
    assert not before["is_there"]
    assert not was_there
    assert [shapes["max"] for shapes in before["shapes"]] == [[2, 128, 128, 3], [1, 64, 96, 3]]
    assert "1x32x64 to 2x128x128, fastest at 1x64x96; 1x64x96" in shown
    assert "sparsity True" in shown
    assert "would be built" in shown
    assert "the same is there already" in after
    assert built["engine"] == before["engine"]
    assert built["build"]["options"] == before["options"]
    actual, estimated = built["build"]["activation_bytes"], before["estimated_activation_bytes"]
    assert all(0.6 < found / guess < 1.6 for found, guess in zip(actual, estimated, strict=True))


@pytest.mark.slow
def test_shapes_that_agree_make_a_graph_of_that_size(segdeploy, inside):
    ended = segdeploy("build-engine", "tiny.toml", *RTX, "--shapes", "2x64x96", "--json")

    build = json.loads(ended.out)["build"]
    assert build["inputs"][0]["shape"] == [2, 64, 96, 3]
    assert build["options"]["profiles"] == []


@pytest.mark.slow
def test_the_same_request_again_loads_neither_torch_nor_onnx(segdeploy, inside, tmp_path):
    frames = shutil.copytree(inside / "frames", tmp_path / "frames")
    asked = ("build-engine", "tiny.toml", *RTX, "--int8", "--calibration", frames)
    first = json.loads(segdeploy(*asked, "--json").out)
    program = (
        "import sys, segdeploy.cli, atexit; atexit.register(lambda: print("
        "{'torch', 'onnx', 'numba'} & set(sys.modules), file=sys.stderr)); segdeploy.cli.main()"
    )

    again = subprocess.run(
        [sys.executable, "-c", program, *map(str, asked), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    (frames / "frame0.png").unlink()
    other = json.loads(segdeploy(*asked, "--json").out)

    assert first["seconds"] > 0
    assert json.loads(again.stdout)["seconds"] == 0
    assert json.loads(again.stdout)["sha256"] == first["sha256"]
    assert again.stderr.strip() == "set()"
    assert other["seconds"] > 0  # of other images
