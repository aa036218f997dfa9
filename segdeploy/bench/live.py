"""Rows as they come: a live table on a terminal, one plain line each in a pipe."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segdeploy.measurement import Measurement

COLUMNS = ("fps", "p50 ms", "p99 ms", "mIoU %", "timing")


@contextmanager
def live_rows(
    names: Sequence[str], console: Console | None = None
) -> Iterator[Callable[[Measurement], None]]:
    """Show what was measured, what is being measured, and what waits; on stderr.

    The table is drawn between two rows only: a thread that redraws it would disturb the steps. Its
    last line stays empty, and the process that measures draws its own bar there.

    Args:
        names: of all rows, in the order in which they come.
        console: that is drawn on; None: stderr.

    Yields:
        What to call with each row when it is there.
    """
    console = console or Console(stderr=True)
    done: list[Measurement] = []
    if not console.is_terminal:

        def tell(measurement: Measurement) -> None:
            done.append(measurement)
            facts = zip(COLUMNS, _cells(measurement), strict=True)
            told = ", ".join(f"{name} {value}" for name, value in facts)
            place = f"{len(done)}/{len(names)}"
            line = f"{place} {names[len(done) - 1]}: {told}"
            console.print(Text(line), soft_wrap=True)

        yield tell
        return
    with Live(_drawn(names, done), console=console, auto_refresh=False, transient=True) as live:

        def draw(measurement: Measurement) -> None:
            done.append(measurement)
            live.update(_drawn(names, done), refresh=True)

        yield draw


def _drawn(names: Sequence[str], done: Sequence[Measurement]) -> Group:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column(f"{len(done)} of {len(names)}", overflow="fold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "timing" else "right")
    for place, name in enumerate(names):
        if place < len(done):
            cells, style = _cells(done[place]), ""
        elif place == len(done):
            cells, style = ["", "", "", "", "being measured"], "bold"
        else:
            cells, style = [""] * len(COLUMNS), "dim"
        table.add_row(*(Text(cell) for cell in (name, *cells)), style=style)
    return Group(table, Text(""))


def _cells(measurement: Measurement) -> list[str]:
    latency, miou = measurement.latency, measurement.miou
    return [
        f"{measurement.fps:.2f}",
        f"{latency.p50_ms:.2f}",
        f"{latency.p99_ms:.2f}",
        "not measured" if miou is None else f"{miou:.2f}",
        measurement.steadiness.verdict,
    ]
