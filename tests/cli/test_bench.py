"""`segdeploy bench`: rows, modes, and what is not scored."""

import json
import re

import pytest

from segdeploy.pipeline.modes import Mode
from segdeploy.spec import Size

pytestmark = pytest.mark.xdist_group("cli")  # one worker traces the tiny model once for all


@pytest.mark.slow
def test_bench_scores_and_times_the_artifact_itself(segdeploy, graph, inside, tmp_path):
    ended = segdeploy(
        "bench", graph, "--dataset", "scenes", "--limit", 3,
        "--json", tmp_path / "rows.json", "--report", tmp_path / "report.md",
        "--html", tmp_path / "report.html",
    )  # fmt: skip

    assert ended.code == 0, ended.err
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert (row["model"], row["precision"], row["runtime"]) == ("tiny", "fp32", "onnxruntime")
    derived = row["derived"]
    assert derived["miou"] == pytest.approx(100, abs=0.1)  # the labels are PyTorch's own
    assert row["tally"]["images"] == 3
    assert derived["fps"] == pytest.approx(1000 / derived["boundaries"]["mmseg"]["mean_ms"])
    assert row["artifact_sha256"]
    assert "tiny" in (tmp_path / "report.md").read_text()
    assert len(list((tmp_path / "report-pictures").iterdir())) == 3
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == 3 * 3  # the image, the truth, the one row
    assert page.count('alt="0: ') == 3
    assert re.search(r"^1/1 .*fp32\.onnx: fps [\d.]+, p50 ms", ended.err, re.MULTILINE)
    rows, again = tmp_path / "rows.json", tmp_path / "again.html"
    pictures = tmp_path / "report-pictures"
    assert segdeploy("bench", "show", rows, "--html", again, "--pictures", pictures).code == 0
    assert again.read_text().count("<img") == 9
    assert segdeploy("bench", "compare", rows, rows, "--fail-if", "p50_ms>+0%").code == 0


@pytest.mark.slow
def test_bench_measures_a_model_in_pytorch_alone(segdeploy, inside, tmp_path):
    rows = tmp_path / "rows.json"

    ended = segdeploy(
        "bench", "tiny.toml", "--dataset", "scenes", "--runtime", "pytorch", "--json", rows,
        "--seconds", 1,
    )  # fmt: skip

    assert ended.code == 0, ended.err
    (row,) = json.loads(rows.read_text())["rows"]
    assert (row["runtime"], row["derived"]["miou"]) == ("pytorch", pytest.approx(100))


@pytest.mark.slow
def test_bench_names_the_mode_in_every_row(segdeploy, inside, tmp_path):
    options = "--mode", "slide", "--crop", "48x64", "--stride", "32x43"
    mode = Mode(crop=Size(48, 64), stride=Size(32, 43))

    ended = segdeploy(
        "bench", "tiny.toml", "--dataset", "scenes", "--runtime", "pytorch", "--limit", 1,
        "--seconds", 1,
        "--json", tmp_path / "rows.json", "--report", tmp_path / "page.md", *options,
    )  # fmt: skip

    assert ended.code == 0, ended.err
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert (row["resolution"], row["mode"]) == (f"64x96, {mode}", str(mode))
    assert row["title"].endswith(f", {mode}")
    assert row["output"] == "logits"
    assert row["derived"]["miou"] is not None
    assert str(mode) in (tmp_path / "page.md").read_text()
    assert "slide" in ended.out


@pytest.mark.slow
def test_bench_without_the_data_measures_speed_only(segdeploy, graph, inside, tmp_path):
    rows = tmp_path / "rows.json"

    ended = segdeploy("bench", graph, "--speed-only", "--json", rows)

    assert ended.code == 0, ended.err
    (row,) = json.loads(rows.read_text())["rows"]
    assert row["derived"]["miou"] is None
    assert row["derived"]["fps"] > 0
    assert row["derived"]["boundaries"]["mmseg"]["p50_ms"] > 0


@pytest.mark.slow
def test_bench_refuses_a_data_set_of_other_classes(segdeploy, graph, inside):
    ended = segdeploy("bench", graph, "--dataset", "demo")

    assert ended.code == 1
    assert "tiny tells 3 classes apart, demo has 8" in ended.err


@pytest.mark.slow
def test_bench_refuses_to_score_what_was_calibrated_on(segdeploy, graph, inside):
    built = segdeploy(
        "build-engine", graph, "--int8", "--target", "onnxruntime",
        "--calibration", "scenes/images", "--json",
    )  # fmt: skip

    ended = segdeploy("bench", json.loads(built.out)["engine"], "--dataset", "scenes")

    assert ended.code == 1
    assert "calibrat" in ended.err
