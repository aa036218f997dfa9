"""What is shown while rows are measured."""

import io
import threading

import pytest
from measured import INT8, PYTORCH
from rich.console import Console

from segdeploy.bench.live import live_rows


def test_a_pipe_gets_one_plain_line_for_each_row() -> None:
    file = io.StringIO()

    with live_rows(["[bold]fcn[/bold], PyTorch", "int8.ort"], Console(file=file)) as show:
        show(PYTORCH)
        show(INT8)

    assert file.getvalue().splitlines() == [
        "1/2 [bold]fcn[/bold], PyTorch: fps 10.00, p50 ms 100.00, p99 ms 100.00, mIoU % 65.00, "
        "timing inconclusive",
        "2/2 int8.ort: fps 40.00, p50 ms 20.00, p99 ms 34.70, mIoU % 55.00, timing inconclusive",
    ]


def test_a_terminal_gets_a_table_that_is_gone_in_the_end() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)

    with live_rows(["fcn, PyTorch", "int8.ort"], console) as show:
        first = file.getvalue()
        show(PYTORCH)
        second = file.getvalue()[len(first) :]

    assert "0 of 2" in first
    assert first.count("being measured") == 1
    assert "1 of 2" in second
    assert "100.00" in second
    assert second.index("being measured") > second.index("int8.ort")
    ending = file.getvalue()[len(first) + len(second) :]
    lines = second.rsplit("1 of 2")[-1].count("\n") + 1
    assert ending.count("\x1b[2K") >= lines  # each line is erased


def test_no_thread_redraws_the_table() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)

    before = threading.active_count()
    with live_rows(["a"], console):
        assert threading.active_count() == before


def test_an_error_comes_through_and_gives_the_cursor_back() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True)

    with pytest.raises(RuntimeError), live_rows(["a"], console):
        raise RuntimeError

    assert file.getvalue().rfind("\x1b[?25h") > file.getvalue().rfind("\x1b[?25l")
