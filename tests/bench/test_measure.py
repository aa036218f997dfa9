"""One artifact, measured in a process of its own: what is timed is what is scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segdeploy.artifacts import Manifest
from segdeploy.bench.measure import BenchOptions, Subject, measure
from segdeploy.errors import SegdeployError
from segdeploy.evaluate import evaluate
from segdeploy.graph import OPSET, save_graph
from segdeploy.images import write_png
from segdeploy.measurement import Boundary
from segdeploy.pipeline.modes import Mode
from segdeploy.pipeline.segment import read_artifact, segment
from segdeploy.runtime import open_session
from segdeploy.spec import ClassSet, Method, Output, Precision, Runtime, Size

SIZE = Size(40, 56)
MANIFEST = Manifest(
    "red", Method.FCN, ClassSet.numbered(3), size=SIZE, checkpoint="red.pth", checkpoint_sha256="ab"
)
CLASSES = """classes = [
  { name = "a", rgb = [1, 2, 3] }, { name = "b", rgb = [4, 5, 6] }, { name = "c", rgb = [7, 8, 9] },
]"""


def write_graph(path: Path, manifest: Manifest) -> Path:
    """A network whose label of a pixel is its red value."""
    shape = [manifest.batch, *SIZE]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["image", "red"], ["labels"], axis=3)],
        "red",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [*shape, 3])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.array(0), "red")],
    )
    opset = helper.make_opsetid("", OPSET)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return save_graph(model, manifest, path).path


def write_logits_graph(path: Path, manifest: Manifest) -> Path:
    """A network of three classes that sums the red values from the top: crops change its scores."""
    height, width = manifest.size or ("h", "w")
    classes = np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["image", "red"], ["reds"], axis=3),
            helper.make_node("Cast", ["reds"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["values", "axis"], ["map"]),
            helper.make_node("CumSum", ["map", "down"], ["sums"]),
            helper.make_node("Mod", ["sums", "three"], ["rest"], fmod=1),
            helper.make_node("Sub", ["rest", "classes"], ["distance"]),
            helper.make_node("Abs", ["distance"], ["size"]),
            helper.make_node("Neg", ["size"], ["logits"]),
        ],
        "red",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3, height, width])],
        [
            numpy_helper.from_array(np.array(0), "red"),
            numpy_helper.from_array(np.array([1]), "axis"),
            numpy_helper.from_array(np.array(2), "down"),
            numpy_helper.from_array(np.array(3, np.float32), "three"),
            numpy_helper.from_array(classes, "classes"),
        ],
    )
    opset = helper.make_opsetid("", OPSET)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return save_graph(model, replace(manifest, output=Output.LOGITS), path).path


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Four images whose red values are their labels, but for a wrong quarter of the last."""
    folder = tmp_path / "reds"
    for k in range(4):
        labels = np.arange(SIZE.height * SIZE.width, dtype=np.uint8).reshape(SIZE) % 3
        image = np.zeros((*SIZE, 3), np.uint8)
        image[..., 0] = labels
        if k == 3:
            labels[:20, :28] = (labels[:20, :28] + 1) % 3
        write_png(folder / "images" / f"{k}.png", image)
        write_png(folder / "labels" / f"{k}.png", labels)
    (folder / "classes.toml").write_text(CLASSES)
    return folder


@pytest.mark.slow
def test_scores_are_of_the_images_that_were_asked_for(tmp_path, dataset):
    subject = Subject(artifact=write_graph(tmp_path / "red.onnx", MANIFEST))
    options = BenchOptions(dataset=str(dataset), threads=1, pictures=True)

    some = measure(subject, replace(options, limit=3)).measurement
    outcome = measure(subject, options)

    every = outcome.measurement
    assert (some.images, some.miou, some.aacc) == (3, 100, 100)
    assert every.images == 4
    assert every.aacc == pytest.approx(100 * 15 / 16)
    assert every.per_class_iou.keys() == {"class 0", "class 1", "class 2"}
    assert every.runtime is Runtime.ONNXRUNTIME
    assert (every.resolution, every.mode) == ("40x56", "whole")
    assert (every.threads, every.batch) == (1, 1)
    assert len(every.latency.steps_ms) == 195
    assert list(every.boundaries) == list(Boundary)
    assert every.timer is not None
    assert every.timer.cost_ns > 0
    assert list(outcome.pictures) == [3, 0, 1]  # the worst first
    assert {labels.shape for labels in outcome.pictures.values()} == {SIZE}


@pytest.mark.slow
def test_a_row_says_how_many_labels_are_those_of_the_row_before(tmp_path, dataset):
    int8 = replace(MANIFEST, precision=Precision.INT8)
    options = BenchOptions(dataset=str(dataset), threads=1, labels=tmp_path / "kept", limit=2)

    first = measure(Subject(artifact=write_graph(tmp_path / "a.onnx", MANIFEST)), options)
    second = measure(Subject(artifact=write_graph(tmp_path / "b.onnx", int8)), options)

    assert first.measurement.agreement == ()
    (found,) = second.measurement.agreement
    assert (found.runtime, found.precision) == (Runtime.ONNXRUNTIME, Precision.FP32)
    assert (found.pixels, found.percent) == (2 * 40 * 56, 100)


@pytest.mark.slow
def test_a_batch_counts_as_so_many_images(tmp_path):
    path = write_graph(tmp_path / "red.onnx", replace(MANIFEST, batch=4))

    found = measure(Subject(artifact=path), BenchOptions(dataset="demo", speed_only=True))

    measurement = found.measurement
    assert measurement.batch == 4
    assert measurement.fps == pytest.approx(4 * measurement.latency.fps)
    assert (measurement.miou, measurement.images) == (None, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"batch": 4, "output": Output.LOGITS}, "returns logits in batches of 4"),
        ({"size": Size(64, 64)}, "the artifact takes 64x64, images of reds are 40x56"),
        ({"classes": ClassSet.numbered(5)}, "tells 5 classes apart, reds has 3"),
        ({"calibration_split": "reds/val"}, "reds/val"),
    ],
)
def test_what_would_mean_nothing_is_not_measured(tmp_path, dataset, changes, complaint):
    path = write_graph(tmp_path / "red.onnx", replace(MANIFEST, **changes))

    with pytest.raises(SegdeployError, match=complaint):
        measure(Subject(artifact=path), BenchOptions(dataset=str(dataset)))


@pytest.mark.slow
def test_random_weights_have_a_speed_and_no_score(tmp_path, dataset):
    path = write_graph(tmp_path / "red.onnx", replace(MANIFEST, checkpoint="random:0"))

    found = measure(Subject(artifact=path), BenchOptions(dataset=str(dataset))).measurement

    assert (found.weights, found.miou, found.images) == ("random:0", None, 0)
    assert found.fps > 0


def test_the_size_of_a_folders_images_is_known_without_scoring_them(dataset):
    assert BenchOptions(dataset=str(dataset)).nominal_size() == SIZE
    assert BenchOptions(dataset="cityscapes").nominal_size() == Size(1024, 2048)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "name"),
    [
        (Mode(tta=True), "ms+flip"),
        (Mode(crop=Size(32, 48), stride=Size(20, 30)), "slide 32x48 by 20x30"),
    ],
    ids=str,
)
def test_what_is_timed_and_scored_is_in_the_mode_that_the_row_names(tmp_path, dataset, mode, name):
    path = write_logits_graph(tmp_path / "red.onnx", replace(MANIFEST, size=None))
    options = BenchOptions(dataset=str(dataset), threads=1, mode=mode)

    row = measure(Subject(artifact=path), options).measurement

    with open_session(read_artifact(path), threads=1) as session:
        expected = evaluate(lambda image: segment(session, image, mode), options.open()[0])
        whole = evaluate(lambda image: segment(session, image), options.open()[0])
    assert row.aacc == pytest.approx(100 * expected.aacc())
    assert row.aacc != pytest.approx(100 * whole.aacc(), abs=1)
    assert row.resolution == f"40x56, {name}"
    assert row.mode == name
    assert row.name == f"FCN red.pth, {name}"
    assert row.images == 4


@pytest.mark.slow
def test_crops_are_timed_on_images_of_the_usual_size(tmp_path):
    path = write_logits_graph(tmp_path / "red.onnx", MANIFEST)
    usual = BenchOptions(dataset="demo").nominal_size()
    options = BenchOptions(
        dataset="demo", speed_only=True, max_seconds=1, mode=Mode(crop=SIZE, stride=SIZE)
    )

    row = measure(Subject(artifact=path), options).measurement

    assert row.resolution == f"{usual}, slide 40x56 by 40x56"


@pytest.mark.parametrize("seconds", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused_under_its_own_name(seconds):
    with pytest.raises(SegdeployError, match=f"^seconds = {seconds}; wanted a finite number"):
        BenchOptions(dataset="demo", max_seconds=seconds)
