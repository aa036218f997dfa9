"""What a comparison consists of, in which order, and what is refused before anything is built."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from measured import LEAST

from segdeploy.artifacts import Store
from segdeploy.bench import run
from segdeploy.bench.measure import BenchOptions, Outcome, Subject
from segdeploy.bench.outputs import Outputs
from segdeploy.bench.run import Comparison, compare
from segdeploy.errors import SegdeployError
from segdeploy.graph import read_model, save_graph
from segdeploy.pipeline.modes import WHOLE, Mode
from segdeploy.pipeline.source import resolve_source
from segdeploy.spec import Method, Output, Precision, Runtime, Size


@pytest.fixture
def measured(monkeypatch) -> list[Subject]:
    """What would have been measured, in order; nothing is."""
    subjects: list[Subject] = []

    def record(subject: Subject, _options: BenchOptions) -> Outcome:
        subjects.append(subject)
        return Outcome(LEAST)

    monkeypatch.setattr(run, "measure", record)
    return subjects


@pytest.fixture
def options(tmp_path) -> BenchOptions:
    return BenchOptions(dataset="demo", speed_only=True, store=Store(tmp_path / "artifacts"))


@pytest.fixture
def known(exported, tmp_path):
    """A graph whose model, a bare method, can be made again from the seed of its weights."""
    graph = exported(Method.FCN)
    manifest = replace(graph.manifest, model="fcn")
    return save_graph(read_model(graph.path), manifest, tmp_path / "known.onnx").path


def test_an_artifact_comes_after_pytorch_at_its_own_size(measured, options, known):
    compare(Comparison(subjects=(str(known),)), options, Outputs())

    pytorch, artifact = measured
    assert (pytorch.model, pytorch.checkpoint, pytorch.size) == ("fcn", "random:0", Size(64, 96))
    assert artifact == Subject(artifact=known)


def test_scales_that_were_trained_are_not_calibrated(measured, options, monkeypatch, tmp_path):
    source = resolve_source("fcn", "random:0", options.store)
    ranges = {"backbone.conv1.conv.input": None}
    trained = replace(source, checkpoint=replace(source.checkpoint, ranges=ranges))
    asked = []

    def remember(_source, _options, request, _device):
        asked.append(request)
        return SimpleNamespace(path=tmp_path / "int8.ort")

    monkeypatch.setattr(run, "make_artifact", remember)
    for found in (source, trained):
        monkeypatch.setattr(run, "resolve_source", lambda *_, found=found: found)
        compare(
            Comparison(
                subjects=("fcn",),
                checkpoint="random:0",
                precisions=(Precision.INT8,),
                runtimes=(Runtime.ONNXRUNTIME,),
            ),
            options,
            Outputs(),
        )

    assert [request.calibration for request in asked] == ["speed-only", None]


def test_an_artifact_of_unknown_origin_is_measured_alone(measured, options, exported, caplog):
    graph = exported(Method.FCN)

    compare(Comparison(subjects=(str(graph.path),)), options, Outputs())

    assert measured == [Subject(artifact=graph.path)]
    assert "no PyTorch row" in caplog.text


def test_what_is_named_twice_is_measured_once(measured, options, known):
    compare(Comparison(subjects=(str(known), str(known))), options, Outputs())

    assert len(measured) == 2


def test_pytorch_can_be_left_out(measured, options, monkeypatch, tmp_path):
    made = SimpleNamespace(path=tmp_path / "made.ort")
    monkeypatch.setattr(run, "make_artifact", lambda *_: made)

    compare(Comparison(subjects=("fcn",), checkpoint="random:0", pytorch=False), options, Outputs())

    assert measured == [Subject(artifact=made.path)]


def test_pytorch_alone_needs_nothing_built(measured, options):
    compare(
        Comparison(subjects=("fcn",), checkpoint="random:0", runtimes=(Runtime.PYTORCH,)),
        options,
        Outputs(),
    )

    assert measured == [Subject(model="fcn", checkpoint="random:0")]


def test_a_missing_data_set_is_found_before_anything_else(measured, options, tmp_path):
    scored = replace(options, dataset="cityscapes", data=tmp_path / "nowhere", speed_only=False)

    with pytest.raises(SegdeployError, match="nowhere: no such folder"):
        compare(Comparison(subjects=("absent.onnx",)), scored, Outputs())

    assert measured == []


def test_a_data_set_without_a_model_asks_for_one(measured, options):
    with pytest.raises(SegdeployError, match="no model of the zoo is trained on camvid"):
        compare(Comparison(), replace(options, dataset="camvid"), Outputs())


def test_the_report_is_written_where_it_is_asked_to(measured, options, known, tmp_path):
    rows, page = tmp_path / "a" / "rows.json", tmp_path / "b" / "page.md"

    report = compare(
        Comparison(subjects=(str(known),)),
        options,
        Outputs(json_path=rows, report_path=page, command="segdeploy bench known.onnx"),
    )

    assert json.loads(rows.read_text())["command"] == report.command
    assert "segdeploy bench known.onnx" in page.read_text()


def test_a_copy_of_an_artifact_is_another_subject(measured, options, known, tmp_path):
    shutil.copy(known, tmp_path / "copy.onnx")

    compare(Comparison(subjects=(str(known), str(tmp_path / "copy.onnx"))), options, Outputs())

    assert [subject.artifact for subject in measured if subject.artifact] == [
        known,
        tmp_path / "copy.onnx",
    ]


SLIDE = Mode(crop=Size(512, 1024), stride=Size(341, 683))


@pytest.mark.parametrize(
    ("dataset", "mode", "size", "output"),
    [
        ("cityscapes", WHOLE, Size(1024, 2048), Output.LABELS),
        ("cityscapes", SLIDE, Size(512, 1024), Output.LOGITS),
        ("cityscapes", Mode(tta=True), None, Output.LOGITS),
        ("cityscapes", replace(SLIDE, tta=True), None, Output.LOGITS),
        ("cityscapes", Mode(crop=Size(1025, 64), stride=Size(9, 9)), None, Output.LOGITS),
        ("ade20k", WHOLE, None, Output.LOGITS),
        ("ade20k", SLIDE, None, Output.LOGITS),
    ],
    ids=str,
)
def test_graphs_are_traced_for_the_sizes_that_the_mode_needs(
    measured, options, monkeypatch, tmp_path, dataset, mode, size, output
):
    traced = []

    def record(_source, export, *_rest):
        traced.append(export)
        return SimpleNamespace(path=tmp_path / "made.onnx")

    monkeypatch.setattr(run, "make_artifact", record)

    compare(
        Comparison(subjects=("fcn",), checkpoint="random:0"),
        replace(options, dataset=dataset, mode=mode),
        Outputs(),
    )

    assert [(export.size, export.output) for export in traced] == [(size, output)]
    assert measured[0].output is output


def test_an_artifact_that_the_mode_cannot_use_is_refused_before_anything_is_measured(
    measured, options, known
):
    with pytest.raises(SegdeployError, match="the artifact returns labels"):
        compare(
            Comparison(subjects=("fcn", str(known)), checkpoint="random:0", runtimes=()),
            replace(options, mode=Mode(tta=True)),
            Outputs(),
        )

    assert measured == []


@pytest.mark.parametrize(
    ("mode", "mious"),
    [
        (Mode(tta=True), {"fcn-cityscapes": 73.34}),
        (SLIDE, {}),
        (replace(SLIDE, tta=True), {}),
    ],
    ids=str,
)
def test_a_published_score_stands_beside_rows_of_its_own_mode_only(measured, options, mode, mious):
    compared = Comparison(subjects=("fcn",), checkpoint="random:0", runtimes=())

    report = compare(compared, replace(options, mode=mode), Outputs())

    assert {name: target.miou for name, target in report.targets.items()} == mious
    assert all("fps and resolution of one pass" in t.note for t in report.targets.values())
    assert compare(compared, options, Outputs()).targets["fcn-cityscapes"].miou == 71.19
