"""The page of peers is what its results say."""

import json
import shutil

import peers
import pytest
import typer


def test_the_page_is_what_the_results_say():
    assert peers.PAGE.read_text("utf-8") == peers.page(peers.RESULTS)


def test_a_changed_result_changes_the_page_and_the_check_sees_it(tmp_path, monkeypatch):
    for name in (*(name for name, *_ in peers.SPEED), *peers.ACCURACY):
        shutil.copy(peers.RESULTS / name, tmp_path)
    path = tmp_path / "rewrites-cpu.json"
    content = json.loads(path.read_text())
    content["rows"][0]["wall_ms"] = [123456.0] * len(content["rows"][0]["wall_ms"])
    path.write_text(json.dumps(content))
    monkeypatch.setattr(peers, "RESULTS", tmp_path)

    with pytest.raises(typer.Exit) as ended:
        peers.main(check=True)

    assert ended.value.exit_code == 1
    assert "| 123456 (" in peers.page(tmp_path)


def test_the_ratio_is_that_of_the_turns():
    rows = [
        peers.Row("m", "8x8", "mmseg", 1, (4.0, 9.0, 8.0), (1.0,) * 3, 1),
        peers.Row("m", "8x8", "rewritten", 1, (2.0, 3.0, 1.0), (1.0,) * 3, 1),
    ]

    assert peers.cell(rows, "mmseg", "rewritten") == "8 (3.00x)"
    assert peers.cell(rows, "rewritten", "rewritten") == "2"
    assert peers.cell(rows, "pytorch", "rewritten") == peers.NONE


def test_every_subject_of_the_results_has_a_name():
    for name, _, subjects in peers.SPEED:
        rows = json.loads((peers.RESULTS / name).read_text())["rows"]
        left_out = {"int8 full range"}
        assert {row["subject"] for row in rows} <= subjects.keys() | left_out
    for name in peers.ACCURACY:
        rows = json.loads((peers.RESULTS / name).read_text())["rows"]
        assert {row["name"] for row in rows} <= peers.QUANTIZERS.keys()
