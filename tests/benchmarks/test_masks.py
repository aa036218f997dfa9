"""The comparison of masks, on logits small enough for a test."""

import json

import masks
import numpy as np
import pytest

from segdeploy.spec import Size

pytest.importorskip("onnxruntime")


@pytest.fixture
def cases():
    once, twice = Size(64, 96), Size(51, 70)
    return masks.Case(5, Size(8, 12), once, once), masks.Case(7, Size(8, 12), once, twice)


def test_both_subjects_label_alike(cases):
    for case in cases:
        for make in (masks.soft_logits, masks.white_logits):
            logits = make(case)

            found = [opener(case, 1)(logits) for opener in masks.OPENERS.values()]

            assert found[0].shape == found[1].shape == (1, *case.original)
            assert np.mean(found[0] != found[1]) < 1e-3  # ties within rounding
            assert len(np.unique(found[1])) > 1


def test_the_file_holds_every_turn_of_every_case(monkeypatch, tmp_path, capsys, cases):
    monkeypatch.setattr(masks, "CASES", cases)
    # A process spawned from here could not import the script by its name.
    monkeypatch.setattr(masks, "grown_bytes", lambda name, case: 10**6)

    masks.main(tmp_path / "rows.json", rounds=2)

    content = json.loads((tmp_path / "rows.json").read_text())
    assert content["environment"]["cpu"]
    assert len(content["rows"]) == 8  # two cases, two kinds of logits, one thread and two
    assert all(len(row["masks_ms"]) == len(row["onnxruntime_ms"]) == 2 for row in content["rows"])
    assert capsys.readouterr().out.count("white noise") == 4
