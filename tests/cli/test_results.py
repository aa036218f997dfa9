"""`segdeploy bench show` and `bench compare`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from measured import ENVIRONMENT, PYTORCH, report, timed

STEPS = [100 + k % 5 for k in range(100)]  # as many as p99 needs


def write(path: Path, scale: float = 1.0, **changed) -> Path:
    row = replace(PYTORCH, boundaries=timed(*(scale * step for step in STEPS)), **changed)
    path.write_text(report(row).to_json())
    return path


@pytest.fixture
def before(tmp_path) -> Path:
    return write(tmp_path / "before.json")


@pytest.fixture
def slower(tmp_path) -> Path:
    return write(tmp_path / "slower.json", 1.1)


def test_compare_tells_and_passes_without_a_condition(segdeploy, before, slower):
    ended = segdeploy("bench", "compare", before, slower)

    assert ended.code == 0, ended.err
    assert "slower" in ended.out
    assert ended.out.splitlines()[-1] == "1 slower"
    assert "\x1b" not in ended.out


def test_compare_fails_where_a_condition_holds(segdeploy, before, slower):
    passed = segdeploy("bench", "compare", before, slower, "--fail-if", "p99_ms>+15%")
    failed = segdeploy(
        "bench", "compare", before, slower, "--fail-if", "p99_ms>+5%", "--fail-if", "miou<-0.3"
    )

    assert (passed.code, passed.err) == (0, "")
    assert failed.code == 1
    (line,) = failed.err.splitlines()
    assert line.startswith("p99_ms>+5% holds: FCN Cityscapes, PyTorch fp32: p99_ms +10.0 %")


def test_compare_prints_json(segdeploy, before, slower):
    ended = segdeploy("bench", "compare", before, slower, "--json", "--fail-if", "fps<-5%")

    told = json.loads(ended.out)
    assert ended.code == 1
    assert told["failed"] is True
    assert told["headline"] == "1 slower"
    (row,) = told["rows"]
    assert row["boundaries"]["mmseg"]["verdict"] == "slower"
    assert row["boundaries"]["mmseg"]["p50_ms"]["percent"] == pytest.approx(10)
    assert row["counted"]["miou"]["difference"] == 0


def test_compare_prints_markdown_that_names_cannot_break(segdeploy, tmp_path):
    hostile = "a|b\n# <b>[x](y) @all"
    before = write(tmp_path / "a.json", title=hostile)
    after = write(tmp_path / "b.json", 1.1, title=hostile)

    ended = segdeploy("bench", "compare", before, after, "--markdown", "--fail-if", "p50_ms>+5%")

    assert ended.code == 1
    assert ended.out.startswith("### Benchmark: 1 slower\n\n`a.json` → `b.json`\n\n> [!CAUTION]\n")
    table = [line for line in ended.out.splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert "| 🔴 slower |" in table[2]
    assert r"a\|b \# \<b\>\[x\](y) \@all" in table[2]
    assert "\n# <b>" not in ended.out


def test_compare_refuses_other_machines_in_two_lines(segdeploy, before, tmp_path):
    other = replace(report(PYTORCH), environment=replace(ENVIRONMENT, cpu="Other CPU"))
    (tmp_path / "other.json").write_text(other.to_json())

    ended = segdeploy("bench", "compare", before, tmp_path / "other.json")
    told = segdeploy("bench", "compare", before, tmp_path / "other.json", "--across-machines")

    ended.assert_error("environments differ")
    assert told.code == 0
    assert "environments differ: processor: Example CPU / Other CPU" in told.out


def test_compare_refuses_what_is_no_condition(segdeploy, before):
    ended = segdeploy("bench", "compare", before, before, "--fail-if", "p99_ms>5%")

    assert ended.code == 2
    assert "no condition" in " ".join(ended.err.replace("│", "").split())


def test_compare_names_a_file_that_is_no_report(segdeploy, before, tmp_path):
    (tmp_path / "bad.json").write_text("{}")

    segdeploy("bench", "compare", before, tmp_path / "bad.json").assert_error(r"bad\.json")
    segdeploy("bench", "compare", before, tmp_path / "no.json").assert_error("no such file")


def test_show_renders_a_result_again(segdeploy, before, tmp_path):
    ended = segdeploy(
        "bench", "show", before, "--html", tmp_path / "page.html", "--report", tmp_path / "page.md"
    )

    assert ended.code == 0, ended.err
    assert "FCN Cityscapes" in ended.out
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "page.md").read_text().startswith("# Benchmark")


def test_show_refuses_pictures_that_are_not_there(segdeploy, before, tmp_path):
    page = tmp_path / "page.html"

    ended = segdeploy("bench", "show", before, "--html", page, "--pictures", tmp_path / "none")

    ended.assert_error("no such folder")
    assert not page.exists()


def test_bench_itself_still_takes_models(segdeploy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    segdeploy("bench", "no-such-model").assert_error("no-such-model")
