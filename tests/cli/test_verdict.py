"""`build-engine --min-miou`: its options, and how it ends."""

import json
from dataclasses import replace

import pytest
import typer

from segdeploy.accuracy import AccuracyFloor, Score
from segdeploy.artifacts import EnginePlan, Manifest
from segdeploy.cli.verdict import parse_seconds
from segdeploy.environment import Environment
from segdeploy.pipeline import verdict as pipeline_verdict
from segdeploy.pipeline.built import Built
from segdeploy.pipeline.verdict import Judged
from segdeploy.spec import ClassSet, Method, Precision
from segdeploy.verdict import Candidate, Found, Verdict, VerdictKind
from segdeploy.verdict_page import Trial

FP32 = Candidate(precision=Precision.FP32, score=Score(80.0), latency_ms=(10.0,))
INT8 = replace(FP32, precision=Precision.INT8, floating_macs=0.0, latency_ms=(4.0,))
TRIAL = Trial(
    model="demo",
    runtime="onnxruntime 1",
    dataset="demo/val",
    images=2,
    calibration="demo-64",
    floor=AccuracyFloor.parse("99%"),
    reference=Score(80.0),
    floating=(FP32,),
    found=Found((INT8,), is_complete=True),
    ranking=(),
    verdict=Verdict(VerdictKind.MET, INT8, ("All is well.",)),
    environment=Environment("cpu", 2, 2, None, "os", "python", None, "", (), ()),
    command="",
    created="",
)
ASK = ("build-engine", "demo", "--int8", "--target", "onnxruntime", "--min-miou", "99%")


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """Let the search end as a test wants it; returns the requests that it got."""
    (tmp_path / "int8.ort").write_bytes(b"1234")
    manifest = Manifest("demo", Method.FCN, ClassSet.numbered(3), Precision.INT8)
    built = Built(EnginePlan(tmp_path / "int8.ort", manifest), seconds=1.0)
    asked = []

    def end(kind: VerdictKind):
        trial = replace(TRIAL, verdict=replace(TRIAL.verdict, kind=kind))
        judged = Judged(trial, None if kind is VerdictKind.NOT_MET else built)
        monkeypatch.setattr(
            pipeline_verdict, "build_with_verdict", lambda *given: asked.append(given) or judged
        )
        return asked

    return end


@pytest.mark.parametrize(
    ("kind", "code"),
    [(VerdictKind.MET, 0), (VerdictKind.DOES_NOT_PAY, 0), (VerdictKind.NOT_MET, 1)],
)
def test_only_a_missed_floor_is_a_failure(segdeploy, ended, kind, code):
    ended(kind)

    found, out, _ = segdeploy(*ASK)

    assert found == code
    assert f"{kind}: All is well." in out
    assert ("int8.ort" in out) == (code == 0)


def test_the_options_reach_the_search(segdeploy, ended):
    asked = ended(VerdictKind.MET)

    segdeploy(
        *ASK, "--min-iou", "road=-1", "--min-iou", "car=99%", "--dataset", "scenes",
        "--limit", "7", "--budget", "90s", "--report", "v.md",
    )  # fmt: skip

    model, checkpoint, engine, wanted = asked[0]
    assert (model, checkpoint, engine.precision) == ("demo", None, Precision.INT8)
    assert wanted.floor == AccuracyFloor.parse("99%", ["road=-1", "car=99%"])
    assert (wanted.dataset, wanted.limit, wanted.budget_s) == ("scenes", 7, 90)
    assert wanted.report.name == "v.md"


def test_a_verdict_for_machines_has_every_step(segdeploy, ended):
    ended(VerdictKind.NOT_MET)

    code, out, _ = segdeploy(*ASK, "--json")

    found = json.loads(out)
    assert code == 1
    assert found["verdict"] == "NOT MET"
    assert found["engine"] is None
    assert [row["steps_ms"] for row in found["candidates"]] == [[10.0], [4.0]]
    assert found["candidates"][0]["miou"] == 80.0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--min-miou", "99%"), "go with --int8"),
        (("--int8", "--min-miou", "99"), "floor '99'"),
        (("--int8", "--min-miou", "0.5"), "floor '0.5'"),
        (("--int8", "--min-iou", "road"), "floor 'road'"),
        (("--int8", "--min-iou", "road=1", "--min-miou", "-0.5"), "floor '1'"),
        (("--int8", "--min-miou", "99%", "--budget", "soon"), "--budget soon"),
        (("--int8", "--min-miou", "99%", "--report", "page.html"), "page.html"),
        (("--int8", "--limit", "3"), "go with --min-miou"),
        (("--int8", "--min-miou", "99%", "--limit", "0"), "--limit"),
        (("--budget", "5m"), "go with --min-miou"),
    ],
)
def test_wrong_usage_ends_with_two(segdeploy, arguments, problem):
    code, out, err = segdeploy("build-engine", "demo", *arguments)

    assert (code, out) == (2, "")
    assert problem in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("0s", 0)]
)
def test_a_budget_is_a_time(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "1d", "nan s", "9999999999h"])
def test_a_budget_that_is_no_time_is_refused(text):
    with pytest.raises(typer.BadParameter, match="wanted a time such as"):
        parse_seconds(text)
