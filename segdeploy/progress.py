"""Progress bars on stderr: live on a terminal, silent in a pipe."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
Advance = Callable[[float], None]  # called with the units done since the last call


@contextmanager
def progress_bar(what: str, total: float | None) -> Iterator[Advance]:
    """Show one bar while the block runs; `total` None shows a pulse."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task(what, total=total)
        yield lambda steps: bars.advance(task, steps)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Iterate under a progress bar."""
    with progress_bar(what, total) as advance:
        for item in items:
            yield item
            advance(1)
