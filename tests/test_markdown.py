"""Markdown of names that come from files."""

import pytest

from segdeploy.markdown import code, escape, table


def test_columns_after_the_first_are_numbers():
    assert table(["a", "b", "c"], [["x", "1", "2"]], left=2) == (
        "| a | b | c |\n| --- | --- | ---: |\n| x | 1 | 2 |"
    )


@pytest.mark.parametrize("mark", list("\\`*[]<>|"))
def test_a_mark_in_a_name_is_text(mark):
    assert escape(f"a{mark}b") == f"a\\{mark}b"


def test_a_name_stays_on_one_line_and_may_lose_more_marks():
    assert escape("a_\n# b", more="_#") == "a\\_ \\# b"
    assert escape("a_\n# b") == "a_ # b"


def test_a_layer_cannot_end_its_backticks():
    assert code("/head/conv_1`<b>") == "/head/conv_1??b?"
