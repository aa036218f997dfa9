"""The comparison of evaluation loops, on images small enough for a test."""

import json
import sys

import evaluation
import numpy as np
import pytest
from evaluation import ALONE, OURS, Row, measure_mmseg, plain_loop, write_scenes

from segdeploy.datasets import open_dataset
from segdeploy.evaluate import evaluate
from segdeploy.spec import Size

pytest.importorskip("torch")


@pytest.fixture
def dataset(tmp_path):
    write_scenes(tmp_path, 3, Size(64, 128))
    return open_dataset("cityscapes", tmp_path, "val")


def test_both_loops_find_the_same_score(dataset):
    def predict(image):
        return (image[..., 0] // 40).astype(np.uint8)

    assert plain_loop(predict, dataset) == pytest.approx(
        evaluate(predict, dataset).miou(), abs=1e-6
    )
    assert 0 < plain_loop(predict, dataset) < 1


def test_the_share_outside_is_the_median_of_the_rounds():
    row = Row("fp32", OURS, 4, (10.0, 20.0, 10.0), (9.0, 10.0, 9.5), (8.0,), (6.0,))

    assert row.outside == pytest.approx(0.1)
    assert row.cpu_outside == pytest.approx(0.25)
    assert Row("fp32", "mmseg", 4, (10.0,), (9.0,)).cpu_outside is None


def test_the_file_holds_every_round_and_says_that_mmseg_was_not_run(monkeypatch, tmp_path, capsys):
    rows = [
        Row("fp32", ALONE, 4, (9.0,), (9.0,), (18.0,), (18.0,)),
        Row("fp32", OURS, 4, (10.0,), (9.0,), (20.0,), (18.0,)),
    ]
    monkeypatch.setattr(evaluation, "measure", lambda *_: rows)
    monkeypatch.setattr(evaluation, "make_artifact", lambda *_: None)
    monkeypatch.setattr(
        evaluation, "write_scenes", lambda root, n: write_scenes(root, n, Size(64, 128))
    )

    evaluation.main(tmp_path / "rows.json", precisions="fp32", images=1, rounds=1)

    content = json.loads((tmp_path / "rows.json").read_text())
    assert [row["loop"] for row in content["rows"]] == [ALONE, OURS]
    assert content["rows"][1]["outside"] == pytest.approx(0.1)
    assert content["environment"]["cpu"]
    printed = capsys.readouterr().out
    assert "| segdeploy | fp32 | 2.500 | 10.0 | 10.0 |" in printed
    assert "mmseg's own loop was not run" in printed


def test_a_loop_of_mmseg_that_fails_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="mmseg's loop failed"):
        measure_mmseg(sys.executable, "no-config", tmp_path, 1, 1)
