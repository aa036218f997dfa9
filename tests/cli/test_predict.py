"""`segdeploy predict`: label maps of a graph, an engine, PyTorch; averaged; refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

from segdeploy.images import read_image, read_labels
from segdeploy.nets.checkpoint import random_checkpoint
from segdeploy.pipeline.modes import Mode
from segdeploy.pipeline.segment import segment
from segdeploy.recipes import load_model
from segdeploy.runtime.pytorch import PyTorchSession
from segdeploy.spec import Output, Size

pytestmark = pytest.mark.xdist_group("cli")  # one worker traces the tiny model once for all


@pytest.mark.parametrize("what", ["graph", "engine"])
def test_predict_writes_label_maps_and_overlays(segdeploy, graph, inside, tmp_path, what):
    artifact = graph
    if what == "engine":
        built = segdeploy("build-engine", graph, "--target", "onnxruntime", "--json")
        artifact = json.loads(built.out)["engine"]

    ended = segdeploy("predict", artifact, "scenes/images", "-o", tmp_path, "--overlay", "--json")

    names = [f"{k}{kind}.png" for k in range(4) for kind in ("", "-overlay")]
    assert json.loads(ended.out) == [str(tmp_path / name) for name in names]
    for k in range(4):
        expected = read_labels(inside / "scenes" / "labels" / f"{k}.png")
        assert (read_labels(tmp_path / f"{k}.png") == expected).mean() > 0.999


def test_predict_in_pytorch_gives_the_labels_of_pytorch(segdeploy, inside, tmp_path):
    ended = segdeploy(
        "predict", "tiny.toml", "scenes/images/1.png", "-o", tmp_path, "--runtime", "pytorch"
    )

    expected = read_labels(inside / "scenes" / "labels" / "1.png")
    assert ended.out.split() == [str(tmp_path / "1.png")]
    assert np.array_equal(read_labels(tmp_path / "1.png"), expected)


MODES = [
    (("--tta",), Mode(tta=True)),
    (
        ("--mode", "slide", "--crop", "48x64", "--stride", "32x43"),
        Mode(crop=Size(48, 64), stride=Size(32, 43)),
    ),
]


@pytest.mark.parametrize(("options", "mode"), MODES, ids=str)
def test_predict_averages_as_it_is_told_to(segdeploy, inside, tmp_path, options, mode):
    ended = segdeploy(
        "predict", "tiny.toml", "scenes/images/1.png", "-o", tmp_path, "--runtime", "pytorch",
        *options,
    )  # fmt: skip

    spec = load_model("tiny.toml")
    with PyTorchSession(spec, random_checkpoint(spec, seed=0), output=Output.LOGITS) as session:
        expected = segment(session, read_image(Path("scenes/images/1.png")), mode)
    assert ended.code == 0, ended.err
    assert np.array_equal(read_labels(tmp_path / "1.png"), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "mode"), MODES, ids=str)
def test_predict_averages_with_a_model_and_with_a_graph_of_logits(
    segdeploy, inside, tmp_path, options, mode
):
    image, spec = Path("scenes/images/1.png"), load_model("tiny.toml")
    graph = Path("artifacts/tiny/fp32-dynamic-logits.onnx")

    of_model = segdeploy("predict", "tiny.toml", image, "-o", tmp_path / "model", *options)
    of_graph = segdeploy("predict", graph, image, "-o", tmp_path / "graph", *options)

    with PyTorchSession(spec, random_checkpoint(spec, seed=0), output=Output.LOGITS) as session:
        expected = segment(session, read_image(image), mode)
    assert (of_model.code, of_graph.code) == (0, 0), of_model.err + of_graph.err
    for kind in ("model", "graph"):
        assert (read_labels(tmp_path / kind / "1.png") == expected).mean() > 0.999


@pytest.mark.parametrize("options", [options for options, _ in MODES], ids=str)
@pytest.mark.parametrize("command", ["predict", "bench"])
def test_a_graph_of_labels_cannot_be_averaged(segdeploy, graph, inside, tmp_path, command, options):
    rest = ("scenes/images", "-o", tmp_path / "out") if command == "predict" else ("--speed-only",)

    ended = segdeploy(command, graph, *rest, *options)

    ended.assert_error("the artifact returns labels")
    assert "hint: export it with --output logits --dynamic" in ended.err
    assert not (tmp_path / "out").exists()


def test_predict_refuses_a_damaged_image_by_name(segdeploy, graph, inside, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))

    ended = segdeploy("predict", graph, tmp_path / "bad.png", "-o", tmp_path / "out")

    ended.assert_error(r"bad\.png: not an image, or a damaged one")
