"""Which artifacts become a folder for DeepStream, which do not, and what lies in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from segdeploy.artifacts import EnginePlan, Graph, sha256_of
from segdeploy.build_record import BuildRecord
from segdeploy.deepstream.configuration import NvinferOptions, NvinferOutput
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.graph import read_model, save_graph
from segdeploy.pipeline.deepstream import SOURCES, export_deepstream
from segdeploy.spec import INPUT, Method, Output, Precision, Runtime, Size, Tuning

SIZE = Size(64, 96)
OPEN = {"size": None, "batch": None}
BOTH = {"config_infer.txt", "model.onnx", "labels.txt", "README.md"}
PARSER = {"segdeploy_deepstream.cpp", "Makefile"}
PROBABILITIES = NvinferOptions(output=NvinferOutput.PROBABILITIES)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def plan_of(graph: Graph, folder: Path, **changes: object) -> EnginePlan:
    """A plan beside the graph; what it holds is read by TensorRT alone."""
    path = folder / "model.plan"
    path.write_bytes(b"a plan")
    values = {
        "runtime": Runtime.TENSORRT,
        "runtime_version": "10.3.0",
        "source_sha256": sha256_of(graph.path),
        "sha256": sha256_of(path),
        "build": BuildRecord(os="Linux x86_64"),
        **changes,
    }
    plan = EnginePlan(path, replace(graph.manifest, **values))
    plan.save_manifest()
    return plan


@pytest.fixture
def graph(exported, tmp_path) -> Graph:
    """The smallest, alone in a folder."""
    given = exported(Method.FCN)
    (tmp_path / "in").mkdir()
    return save_graph(read_model(given.path), given.manifest, tmp_path / "in" / "fp32.onnx")


@pytest.fixture
def changed(graph):
    """The graph with another manifest."""

    def change(**changes: object) -> Path:
        manifest = replace(graph.manifest, **changes)
        return save_graph(read_model(graph.path), manifest, graph.path.with_name("other.onnx")).path

    return change


def test_label_maps_come_with_their_parser(graph, tmp_path):
    written = export_deepstream(graph.path, tmp_path / "out", NvinferOptions())

    assert names(tmp_path / "out") == BOTH | PARSER == {path.name for path in written}
    for name in PARSER:
        assert (tmp_path / "out" / name).read_bytes() == (SOURCES / name).read_bytes()
    configuration = (tmp_path / "out" / "config_infer.txt").read_text()
    assert sha256_of(graph.path) in configuration
    assert str(tmp_path) not in configuration
    classes = (tmp_path / "out" / "labels.txt").read_text().splitlines()
    assert tuple(classes) == graph.manifest.classes.names


def test_probabilities_need_no_parser(graph, tmp_path):
    export_deepstream(graph.path, tmp_path / "out", PROBABILITIES)

    assert names(tmp_path / "out") == BOTH


def test_a_plan_stands_for_the_graph_beside_it(graph, tmp_path, blocks):
    plan = plan_of(graph, graph.path.parent)
    images = blocks(SIZE, seed=5)

    export_deepstream(plan.path, tmp_path / "out", NvinferOptions())

    expected, found = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
            None, {INPUT: given}
        )[0]
        for path, given in [
            (graph.path, images),
            (tmp_path / "out" / "model.onnx", images.transpose(0, 3, 1, 2).astype(np.float32)),
        ]
    )
    assert np.array_equal(found, expected)


def test_a_graph_of_any_size_is_given_one(exported, tmp_path):
    options = NvinferOptions(batch=4)

    export_deepstream(exported(Method.FCN, **OPEN).path, tmp_path / "out", options, SIZE)

    shape = onnx.load(tmp_path / "out" / "model.onnx").graph.input[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [0, 3, *SIZE]
    assert "infer-dims=3;64;96" in (tmp_path / "out" / "config_infer.txt").read_text()


def refusal(path: Path, out: Path, options=None, size=None) -> SegdeployError:
    with pytest.raises(SegdeployError) as caught:
        export_deepstream(path, out, options or NvinferOptions(), size)
    assert not out.exists()
    return caught.value


def test_logits_are_refused(exported, tmp_path):
    found = refusal(exported(Method.FCN, output=Output.LOGITS).path, tmp_path / "out")

    assert "returns logits; wanted labels" in found.problem
    assert "--output labels" in found.hint


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tuning": Tuning.CPU}, "is rewritten for a cpu"),
        (
            {"precision": Precision.INT8, "quantization": "onnxruntime"},
            "is quantized for ONNX Runtime, tensorrt refuses",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_tensorrt_would_not_take_is_refused(changes, problem, changed, tmp_path):
    assert problem in refusal(changed(**changes), tmp_path / "out").problem


def test_a_size_has_to_be_known(exported, tmp_path):
    found = refusal(exported(Method.FCN, **OPEN).path, tmp_path / "out")

    assert "takes images of any size" in found.problem
    assert found.hint == "--size HxW"


@pytest.mark.parametrize(
    ("fields", "size", "problem"),
    [
        ({}, Size(64, 64), "takes images of 64x96, asked for 64x64"),
        ({}, Size(16, 96), "size 16x96; wanted 32 to 8192 a side"),
        (OPEN, Size(16, 96), "size 16x96; wanted 32 to 8192 a side"),
    ],
    ids=["fixed", "fixed and small", "small"],
)
def test_another_size_is_refused(fields, size, problem, exported, tmp_path):
    found = refusal(exported(Method.FCN, **fields).path, tmp_path / "out", size=size)

    assert problem in found.problem


def test_more_frames_need_an_open_batch(graph, changed, tmp_path):
    more = refusal(graph.path, tmp_path / "out", NvinferOptions(batch=4))
    fixed = refusal(changed(batch=2), tmp_path / "out", NvinferOptions(batch=2))

    assert "takes 1 images at a time, nvinfer would give it 1 to 4" in more.problem
    assert "takes 2 images at a time, nvinfer would give it 1 to 2" in fixed.problem
    assert "--batch dynamic" in more.hint


def test_an_engine_of_onnx_runtime_is_refused(graph, tmp_path):
    plan = plan_of(graph, graph.path.parent, runtime=Runtime.ONNXRUNTIME)

    found = refusal(plan.path, tmp_path / "out")

    assert "is made for onnxruntime; wanted an engine of tensorrt" in found.problem


def test_a_plan_of_another_graph_is_refused(graph, tmp_path):
    plan = plan_of(graph, graph.path.parent, source_sha256="0" * 64)

    assert "is not beside it" in refusal(plan.path, tmp_path / "out").problem


def test_a_plan_that_is_damaged_is_refused(graph, tmp_path):
    plan = plan_of(graph, graph.path.parent, sha256="0" * 64)

    found = refusal(plan.path, tmp_path / "out")

    assert isinstance(found, MisfitError)
    assert "its manifest says 000000000000" in found.problem


@pytest.mark.parametrize("name", ["model.onnx_b1_gpu0_fp32.engine", "anything"])
def test_a_folder_with_something_in_it_is_left_alone(name, graph, tmp_path):
    """An engine in it may be of another graph: nvinfer would find it by its name."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")

    with pytest.raises(SegdeployError, match="is there already; wanted a new or an empty folder"):
        export_deepstream(graph.path, tmp_path / "out", NvinferOptions())

    assert names(tmp_path / "out") == {name}


@pytest.mark.parametrize("place", [".", "empty", "link", "dangling", "new/deep"])
def test_an_empty_folder_is_filled(place, graph, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "dangling").symlink_to("new")
    monkeypatch.chdir(tmp_path / "empty" if place == "." else tmp_path)

    written = export_deepstream(graph.path, Path(place), PROBABILITIES)

    assert names(Path(place)) == BOTH
    assert {path.parent for path in written} == {Path(place)}
    assert all(path.is_file() for path in written)


def test_nothing_is_left_of_a_folder_that_could_not_be_finished(graph, tmp_path, monkeypatch):
    monkeypatch.setattr("segdeploy.pipeline.deepstream.SOURCES", tmp_path / "gone")

    with pytest.raises(SegdeployError, match="out: cannot be written"):
        export_deepstream(graph.path, tmp_path / "out", NvinferOptions())

    assert names(tmp_path) == {"in"}
