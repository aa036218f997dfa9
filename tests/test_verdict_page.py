"""The page of a verdict: what it says first, what its table holds, and its plot."""

import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from segdeploy.accuracy import AccuracyFloor, Score
from segdeploy.environment import Environment
from segdeploy.errors import SegdeployError
from segdeploy.spec import Precision
from segdeploy.verdict import Candidate, Found, LayerError, Verdict, VerdictKind
from segdeploy.verdict_page import Trial, to_markdown, write_page

FP32 = Candidate(
    precision=Precision.FP32, score=Score(80.0), latency_ms=(10.0, 10.5), artifact_bytes=4_000_000
)
FP16 = Candidate(precision=Precision.FP16, latency_ms=(30.0,), artifact_bytes=2_000_000)
INT8 = Candidate(
    precision=Precision.INT8,
    floating_macs=0.01,
    score=Score(70.0),
    latency_ms=(4.0,),
    artifact_bytes=1_000_000,
)
KEPT = replace(
    INT8, floating=("net.a", "net.b"), floating_macs=0.05, score=Score(79.9), latency_ms=(4.5,)
)
TRIAL = Trial(
    model="demo",
    runtime="onnxruntime 1.25",
    dataset="demo/val",
    images=12,
    calibration="demo-64: 64 images",
    floor=AccuracyFloor.parse("99%"),
    reference=Score(80.0),
    floating=(FP32, FP16),
    found=Found((INT8, KEPT), is_complete=True),
    ranking=(LayerError("net.a", 0.02, 0.5), LayerError("net.b", 0.03, None)),
    verdict=Verdict(VerdictKind.MET, KEPT, ("Two layers stay floating.",)),
    notes=("fp16 was not scored.",),
    environment=Environment("cpu", 2, 2, None, "os", "python", None, "", (), ()),
    command="segdeploy build-engine demo --int8 --min-miou 99%",
    created="2026-01-01",
)


def test_the_verdict_stands_first():
    lines = to_markdown(TRIAL).splitlines()

    assert lines[0] == "# INT8 verdict: demo on onnxruntime 1.25"
    assert lines[2] == "**MET.** Two layers stay floating."


def test_every_candidate_has_a_row():
    rows = [line for line in to_markdown(TRIAL).splitlines() if line.startswith(("| fp", "| int"))]

    assert rows == [
        "| fp32 | all | 100.0% | 80.000 | +0.000 | 10.25 | 4.00 | yes |",
        "| fp16 | all | 100.0% | - | - | 30.00 | 2.00 | - |",
        "| int8 | 0 | 1.0% | 70.000 | -10.000 | 4.00 | 1.00 | yes |",
        "| int8, chosen | 2 | 5.0% | 79.900 | -0.100 | 4.50 | 1.00 | yes |",
    ]


def test_the_page_lists_the_floating_layers_and_the_worst_ones():
    page = to_markdown(TRIAL)

    assert "## Layers left floating\n\n- `net.a`\n- `net.b`" in page
    assert "| `net.a` | 2.00% | 5.00e-01 |" in page
    assert "| `net.b` | 3.00% | - |" in page
    assert "fp16 was not scored." in page
    assert "    segdeploy build-engine demo --int8 --min-miou 99%" in page


def test_a_name_from_a_file_is_no_markup():
    strange = replace(TRIAL, model="a | <b>\n# c", ranking=(LayerError("x`|\ny", 0.1, 1.0),))

    page = to_markdown(strange)

    assert page.startswith("# INT8 verdict: a \\| \\<b\\> # c on")
    assert "| `x???y` |" in page


def test_the_plot_lies_beside_the_page(tmp_path):
    write_page(TRIAL, tmp_path / "the verdict.md")

    page = (tmp_path / "the verdict.md").read_text()
    assert "![mIoU over milliseconds](the%20verdict.svg)" in page
    assert ET.parse(tmp_path / "the verdict.svg").getroot().tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["the verdict.md", "the verdict.svg"]


def test_equal_trials_give_equal_plots(tmp_path):
    for name in ("a", "b"):
        write_page(TRIAL, tmp_path / f"{name}.md")

    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_without_matplotlib_the_page_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    write_page(TRIAL, tmp_path / "verdict.md")

    page = (tmp_path / "verdict.md").read_text()
    assert "`pip install 'segdeploy[report]'`" in page
    assert "| int8, chosen | 2 |" in page
    assert not (tmp_path / "verdict.svg").exists()


def test_a_page_is_markdown(tmp_path):
    with pytest.raises(SegdeployError, match=r"wanted a name that ends in \.md"):
        write_page(TRIAL, tmp_path / "verdict.html")
