"""The tables of docs/embedding-cpp.md are those of the result."""

import json
from pathlib import Path

from cpp import costs_table, openings_table, with_table

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_result():
    page = (ROOT / "docs" / "embedding-cpp.md").read_text()
    result = json.loads((ROOT / "benchmarks" / "results" / "cpp-cpu.json").read_text())

    assert costs_table(result) in page
    assert openings_table(result) in page


def test_a_table_takes_the_place_of_the_old_one():
    page = "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nmore\n"

    assert with_table(page, "| a | b |\n|---|---|\n| 5 | 6 |") == (
        "| a | b |\n|---|---|\n| 5 | 6 |\n\nmore\n"
    )
