"""The comparison of rewritten graphs, on the smallest model and image."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from segdeploy.spec import Size

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rewrites.py"
SPEC = importlib.util.spec_from_file_location("rewrites", SCRIPT)
rewrites = importlib.util.module_from_spec(SPEC)


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    sys.modules["rewrites"] = rewrites  # dataclasses look their module up
    SPEC.loader.exec_module(rewrites)
    yield
    del sys.modules["rewrites"]


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
        rewrites.Row("m", "8x8", name, 1, wall, tuple(2 * ms for ms in wall), 1)
        for name, wall in steps.items()
    ]

    assert rewrites.ratio(rows, "plain", "rewritten", cpu=False) == 3.0
    assert rewrites.ratio(rows, "plain", "rewritten", cpu=True) == 3.0
    assert rewrites.ratio(rows, "mmseg", "rewritten", cpu=True) is None


def test_a_worker_that_cannot_start_is_named(tmp_path):
    subject = rewrites.Subject("missing", "segdeploy", str(tmp_path / "no.onnx"))

    with (
        pytest.raises(RuntimeError, match=r"missing: .* did not start"),
        rewrites.running(subject, tmp_path / "no.npy", 1),
    ):
        pass
