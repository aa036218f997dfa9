"""The comparison of rewritten graphs, on the smallest model and image."""

import json

import pytest
import rewrites
import turns

from segdeploy.spec import Size


@pytest.mark.slow
def test_all_subjects_take_turns_and_the_file_holds_every_step(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(rewrites.SIZES, "demo", Size(64, 96))
    out = tmp_path / "rows.json"

    rewrites.compare(out, models="demo", threads="1", rounds=3)

    content = json.loads(out.read_text())
    assert [row["subject"] for row in content["rows"]] == ["plain", "rewritten", "pytorch"]
    for row in content["rows"]:
        assert len(row["wall_ms"]) == len(row["cpu_ms"]) == 3
        assert min(row["wall_ms"]) > 0
        assert row["peak_bytes"] > 1e7
    assert content["rows"][1]["gmac"] < content["rows"][0]["gmac"]
    assert "| demo | 1 |" in capsys.readouterr().out


def test_a_ratio_is_the_median_over_the_turns():
    steps = {"plain": (4.0, 9.0, 8.0), "rewritten": (2.0, 3.0, 1.0)}
    rows = [
        turns.Row("m", "8x8", name, 1, wall, tuple(2 * ms for ms in wall), 1)
        for name, wall in steps.items()
    ]

    assert turns.ratio(rows, "plain", "rewritten", cpu=False) == 3.0
    assert turns.ratio(rows, "plain", "rewritten", cpu=True) == 3.0
    assert turns.ratio(rows, "mmseg", "rewritten", cpu=True) is None


def test_a_worker_that_cannot_start_is_named(tmp_path):
    subject = turns.Subject("missing", "segdeploy", str(tmp_path / "no.onnx"))

    with (
        pytest.raises(RuntimeError, match=r"missing: .* did not start"),
        turns.running(subject, tmp_path / "no.npy", 1),
    ):
        pass
