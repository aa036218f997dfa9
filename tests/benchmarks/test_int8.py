"""The int8 figures, on the smallest model and images."""

import json

import int8
import pytest

pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_speed_lets_every_form_take_turns(tmp_path, capsys):
    out = tmp_path / "speed.json"

    int8.speed(out, models="demo", size="64x96", threads=1, rounds=3)

    rows = json.loads(out.read_text())["rows"]
    assert [row["subject"] for row in rows] == [
        "plain fp32",
        "rewritten fp32",
        "int8",
        "int8 full range",
    ]
    assert all(len(row["cpu_ms"]) == 3 and min(row["cpu_ms"]) > 0 for row in rows)
    assert "| demo |" in capsys.readouterr().out


@pytest.mark.slow
def test_counting_is_timed_beside_running(tmp_path, capsys):
    out = tmp_path / "calibration.json"

    int8.calibration(out, models="demo", size="64x96", images=3)

    rows = json.loads(out.read_text())["rows"]
    assert [row["subject"] for row in rows] == ["calibration", "plain fp32"]
    assert rows[0]["peak_bytes"] > 1e7
    assert "| demo | 64x96 | 4 |" in capsys.readouterr().out
