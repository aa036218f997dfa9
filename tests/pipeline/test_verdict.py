"""An int8 engine with a verdict: on a tiny network end to end, and how a killed run goes on."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segdeploy.accuracy import AccuracyFloor
from segdeploy.artifacts import EnginePlan, Graph, Store
from segdeploy.errors import SegdeployError
from segdeploy.graph import read_model, save_graph
from segdeploy.images import write_png
from segdeploy.nets.checkpoint import random_checkpoint
from segdeploy.pipeline import protocol
from segdeploy.pipeline import verdict as pipeline_verdict
from segdeploy.pipeline.make import EngineRequest
from segdeploy.pipeline.protocol import Evaluation
from segdeploy.pipeline.verdict import Judged, VerdictRequest, build_with_verdict
from segdeploy.pipeline.verdict_log import VerdictLog
from segdeploy.recipes import load_model
from segdeploy.runtime import open_session
from segdeploy.spec import Method, Output, Precision, Runtime, Size
from segdeploy.timing import measure_in_turns
from segdeploy.verdict import Verdict, VerdictKind

SIZE = Size(64, 96)
LOOSE = AccuracyFloor.parse("-100")
STRICT = AccuracyFloor.parse("100%")  # of labels that fp32 itself made: no int8 network has it
IMAGES = 4
MOST = tuple(f"segmentor.backbone.layer{k}" for k in (3, 4, 5, 6, 7))  # for short searches


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Engines take turns all the same; how long they take is of no interest here."""
    monkeypatch.setattr(protocol, "measure_in_turns", partial(measure_in_turns, steps=3))


@pytest.fixture(scope="module")
def graph(exported, tmp_path_factory) -> Graph:
    """A narrow network that passes for a trained one."""
    given = exported(Method.FCN)
    manifest = replace(given.manifest, checkpoint="tiny.pth")
    return save_graph(read_model(given.path), manifest, tmp_path_factory.mktemp("g") / "fp32.onnx")


@pytest.fixture(scope="module")
def scenes(graph, blocks, tmp_path_factory) -> Path:
    """A data set whose labels are what the network itself makes of it, and frames beside it."""
    folder = tmp_path_factory.mktemp("data")
    rows = [f'{{ name = "class {k}", rgb = [{k}, 0, 0] }}' for k in range(7)]
    (folder / "scenes").mkdir()
    (folder / "scenes" / "classes.toml").write_text(f"classes = [{', '.join(rows)}]")
    images = blocks(SIZE, count=IMAGES)
    with open_session(graph) as session:
        labels = np.concatenate([session.run(image[None]) for image in images])
    for k in range(IMAGES):
        write_png(folder / "scenes" / "images" / f"{k}.png", images[k])
        write_png(folder / "scenes" / "labels" / f"{k}.png", labels[k])
        write_png(folder / "frames" / f"frame{k}.png", blocks(SIZE, seed=k + 1)[0])
    return folder


@pytest.fixture
def engine(scenes, tmp_path) -> EngineRequest:
    return EngineRequest(
        precision=Precision.INT8,
        runtime=Runtime.ONNXRUNTIME,
        calibration=str(scenes / "frames"),
        store=Store(tmp_path / "artifacts"),
        out=tmp_path / "own.ort",
        keep_fp32=MOST,
    )


@pytest.fixture
def ask(scenes):
    def make(wanted: AccuracyFloor, **changes) -> VerdictRequest:
        return VerdictRequest(**{"floor": wanted, "dataset": str(scenes / "scenes"), **changes})

    return make


def scores(judged: Judged) -> dict[tuple[str, ...], float]:
    found = judged.trial.found.candidates
    return {candidate.floating: candidate.score.miou for candidate in found}


def test_a_floor_that_is_met_ends_with_the_engine_and_a_page(graph, engine, ask, tmp_path):
    told = []
    wanted = ask(LOOSE, report=tmp_path / "verdict.md", tell=told.append, command="segdeploy x")

    judged = build_with_verdict(str(graph.path), None, engine, wanted)

    trial, plan = judged.trial, EnginePlan.load(tmp_path / "own.ort")
    assert trial.verdict.kind in (VerdictKind.MET, VerdictKind.DOES_NOT_PAY)
    assert trial.verdict.chosen.floating == ()
    assert judged.built.plan == plan
    assert plan.manifest.precision is Precision.INT8
    assert trial.reference.miou == 100
    assert [candidate.precision for candidate in trial.candidates] == ["fp32", "int8"]
    assert all(len(candidate.latency_ms) >= 5 for candidate in trial.candidates)
    assert trial.notes[0].startswith("4 images; wanted 8 or more")  # the doctor, of the set
    assert "fp16 was not measured: fp32.onnx is fp32" in trial.notes[-1]
    assert "**MET" in (tmp_path / "verdict.md").read_text()
    assert "fp32: mIoU 100.000 on 4 images" in told


def test_a_floor_that_cannot_be_met_writes_no_engine(graph, engine, ask, tmp_path):
    judged = build_with_verdict(str(graph.path), None, engine, ask(STRICT, budget_s=0))

    assert judged.trial.verdict.kind is VerdictKind.NOT_MET
    assert judged.built is None
    assert not (tmp_path / "own.ort").exists()


@pytest.mark.slow
def test_layers_go_back_to_floating_point(graph, engine, ask):
    whole = build_with_verdict(str(graph.path), None, engine, ask(LOOSE))
    lost = 100 - whole.trial.verdict.chosen.score.miou
    floor = AccuracyFloor.parse(f"-{0.7 * lost:.4f}")

    judged = build_with_verdict(str(graph.path), None, engine, ask(floor))

    trial, chosen = judged.trial, judged.trial.verdict.chosen
    assert trial.verdict.kind is not VerdictKind.NOT_MET
    assert 0 < len(chosen.floating) < len(trial.ranking)
    assert 0 < chosen.floating_macs < 1
    assert set(chosen.floating) <= {layer.name for layer in trial.ranking}
    assert judged.built.plan.manifest.request != whole.built.plan.manifest.request


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(graph, engine, ask, monkeypatch):
    wanted = ask(AccuracyFloor.parse("99.99%"))
    expected = build_with_verdict(
        str(graph.path), None, replace(engine, store=Store(engine.store.root / "other")), wanted
    )
    score, calls = Evaluation.score, []

    def score_thrice(evaluation, plan):
        calls.append(plan)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(evaluation, plan)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "score", score_thrice)
        with pytest.raises(KeyboardInterrupt):
            build_with_verdict(str(graph.path), None, engine, wanted)
    calls.clear()
    monkeypatch.setattr(Evaluation, "score", lambda *both: calls.append(both) or score(*both))

    judged = build_with_verdict(str(graph.path), None, engine, wanted)

    assert scores(judged) == scores(expected)
    assert len(calls) == len(expected.trial.found.candidates) + 1 - 3


def test_a_second_run_scores_nothing(graph, engine, ask, monkeypatch):
    wanted = ask(STRICT, budget_s=0)
    first = build_with_verdict(str(graph.path), None, engine, wanted)
    monkeypatch.delattr(Evaluation, "score")

    again = build_with_verdict(str(graph.path), None, engine, wanted)

    assert scores(again) == scores(first)


def test_a_score_of_another_graph_is_not_believed(graph, engine, ask):
    build_with_verdict(str(graph.path), None, engine, ask(LOOSE))
    (log,) = engine.store.root.rglob("measured.json")
    text = json.loads(log.read_text())
    for entry in text["entries"]:
        entry["candidate"]["score"]["miou"] = 1.0
        entry["graph_sha256"] = "another"
    log.write_text(json.dumps(text))

    judged = build_with_verdict(str(graph.path), None, engine, ask(LOOSE))

    assert judged.trial.reference.miou == 100


def test_what_a_limit_leaves_out_is_another_request(graph, engine, ask):
    for limit in (1, 2):
        build_with_verdict(str(graph.path), None, engine, ask(LOOSE, limit=limit))

    assert len(list(engine.store.root.rglob("measured.json"))) == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"dataset": None}, "the model names no data set"),
        ({"floor": AccuracyFloor.parse("99%", ["tram=99%"])}, "scenes has no class 'tram'"),
        ({"limit": 0}, "limit of 0 images"),
        ({"dataset": "demo"}, "tells 7 classes apart, demo has 8"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_at_once(graph, engine, ask, change, problem):
    with pytest.raises(SegdeployError, match=problem):
        build_with_verdict(str(graph.path), None, engine, ask(LOOSE, **change))

    assert not engine.store.root.exists()


def test_random_weights_have_nothing_to_keep(exported, engine, ask):
    with pytest.raises(SegdeployError, match="random weights have no accuracy to keep"):
        build_with_verdict(str(exported(Method.FCN).path), None, engine, ask(LOOSE))


def test_images_that_are_scored_are_not_calibrated_on(graph, engine, ask, scenes):
    same = replace(engine, calibration=str(scenes / "scenes" / "images"))

    with pytest.raises(SegdeployError, match="calibration images are among those to score"):
        build_with_verdict(str(graph.path), None, same, ask(LOOSE))


def test_a_runtime_that_cannot_run_here_gets_no_verdict(graph, engine, ask, monkeypatch):
    monkeypatch.setattr(pipeline_verdict, "driver_problem", lambda: "there is no driver")
    on_gpu = replace(engine, runtime=Runtime.TENSORRT_RTX, out=None)

    with pytest.raises(SegdeployError, match="tensorrt-rtx cannot run here: there is no driver"):
        build_with_verdict(str(graph.path), None, on_gpu, ask(LOOSE))


def test_an_engine_needs_its_suffix(graph, engine, ask):
    with pytest.raises(SegdeployError, match=r"own\.plan: wanted a name that ends in \.ort"):
        build_with_verdict(str(graph.path), None, replace(engine, out=Path("own.plan")), ask(LOOSE))


@pytest.mark.slow
def test_the_demo_model_ends_with_a_verdict(tmp_path):
    request = EngineRequest(
        precision=Precision.INT8, runtime=Runtime.ONNXRUNTIME, store=Store(tmp_path)
    )
    floor = AccuracyFloor.parse("97%", ["road=-5"])

    judged = build_with_verdict("demo", None, request, VerdictRequest(floor=floor, limit=4))

    verdict: Verdict = judged.trial.verdict
    assert verdict.kind in (VerdictKind.MET, VerdictKind.DOES_NOT_PAY)
    assert judged.built.plan.path == tmp_path / "demo" / "int8.onnxruntime.ort"
    assert [c.precision for c in judged.trial.floating] == ["fp32", "fp16"]
    assert judged.trial.dataset == "demo/val"
    assert len(VerdictLog.read(next(tmp_path.rglob("measured.json"))).entries) == 3


@pytest.mark.slow
def test_a_model_of_any_size_is_scored_as_ade20k_asks(blocks, tmp_path):
    """Photographs resized for the test and scored at their own size: of logits, not of labels."""
    toml, root = tmp_path / "narrow.toml", tmp_path / "data" / "ADEChallengeData2016"
    toml.write_text(
        'method = "fcn"\nlicense = "MIT"\nclasses = "ade20k"\ndataset = "ade20k"\n'
        "width = 0.35\nhead_channels = 16\n"
    )
    checkpoint = random_checkpoint(load_model(str(toml)), 0)
    torch.save({"state_dict": checkpoint.state}, tmp_path / "narrow.pth")
    (root / "images" / "validation").mkdir(parents=True)
    for k, image in enumerate(blocks(Size(60, 80), count=2), start=1):
        name = f"ADE_val_{k:08d}"
        cv2.imwrite(str(root / "images" / "validation" / f"{name}.jpg"), image)
        labels = image[..., 0] % 150 + 1
        write_png(root / "annotations" / "validation" / f"{name}.png", labels)
        write_png(tmp_path / "frames" / f"frame{k}.png", image)
    request = EngineRequest(
        precision=Precision.INT8,
        runtime=Runtime.ONNXRUNTIME,
        calibration=str(tmp_path / "frames"),
        data=tmp_path / "data",
        store=Store(tmp_path / "artifacts"),
    )

    judged = build_with_verdict(
        str(toml), str(tmp_path / "narrow.pth"), request, VerdictRequest(floor=LOOSE)
    )

    assert judged.trial.dataset == "ade20k/val"
    assert judged.trial.images == 2
    assert judged.built.plan.manifest.output is Output.LABELS  # what a service wants
    with open_session(judged.built.plan) as session:
        assert session.run(blocks(Size(64, 96))).shape == (1, 64, 96)
