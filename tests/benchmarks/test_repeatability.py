"""The script that measures the same file again and again: its turns, its load, its numbers."""

import json
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import repeatability
from measured import PYTORCH, timed
from repeatability import Repeated, repeat

from segdeploy.bench.measure import BenchOptions, Outcome, Subject

FILES = (Path("a.ort"), Path("b.ort"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was measured, and beside how many processes; each run takes a little longer."""
    calls: list[tuple[str, int]] = []

    def measure(subject: Subject, options: BenchOptions) -> Outcome:
        assert subject.artifact is not None
        calls.append((subject.artifact.name, len(multiprocessing.active_children())))
        return Outcome(replace(PYTORCH, boundaries=timed(*[10.0 + len(calls)] * 30)))

    monkeypatch.setattr(repeatability, "measure", measure)
    return calls


def test_artifacts_take_turns_first_quiet_then_beside_a_process_a_core(measured) -> None:
    rows = repeat(FILES, 2, seconds=1, cores=1)

    assert measured == [(name, busy) for busy in (0, 1) for name in ("a.ort", "b.ort") * 2]
    assert [(row.artifact, row.is_busy) for row in rows] == [
        ("a.ort", False), ("b.ort", False), ("a.ort", True), ("b.ort", True),
    ]  # fmt: skip
    assert rows[0].p50_ms == [11.0, 13.0]
    assert not multiprocessing.active_children()


def test_the_variation_is_that_of_all_runs() -> None:
    row = Repeated(
        "a", False, [9.0, 10.0, 11.0], [9.0] * 3, ["stable", "inconclusive: x", "stable"]
    )

    assert row.variation == pytest.approx(0.1)
    assert row.stable == 2


@pytest.mark.skipif(sys.platform != "linux", reason="processes are confined to cores on Linux")
def test_the_process_is_confined_and_the_file_says_where(measured, tmp_path, capsys) -> None:
    usable = os.sched_getaffinity(0)
    core = min(usable)
    try:
        repeatability.main([FILES[0]], tmp_path / "out.json", runs=2, seconds=1, cores=str(core))
        assert os.sched_getaffinity(0) == {core}
    finally:
        os.sched_setaffinity(0, usable)

    content = json.loads((tmp_path / "out.json").read_text())
    assert content["cores"] == [core]
    assert content["environment"]["usable_cores"] == 1
    assert content["rows"][0]["variation"] == pytest.approx(2**-0.5 / 11.5)
    assert "| a.ort | nothing | 2 | 11.50 | 11.00 to 12.00 | 6.1% | 2 |" in capsys.readouterr().out
