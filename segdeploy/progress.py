"""Progress bars on stderr: live on a terminal, silent in a pipe."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
Advance = Callable[[float], None]  # called with the units done since the last call


@dataclass(frozen=True)
class Bar:
    """A bar that is shown: called with the units done since the last call."""

    bars: Progress
    task: TaskID
    what: str

    def __call__(self, steps: float) -> None:
        """Move it on."""
        self.bars.advance(self.task, steps)

    def tell(self, phase: str) -> None:
        """Show what is being done now."""
        self.bars.update(self.task, description=f"{self.what}: {phase}")


@contextmanager
def progress_bar(what: str, total: float | None) -> Iterator[Bar]:
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
        yield Bar(bars, bars.add_task(what, total=total), what)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Iterate under a progress bar."""
    with progress_bar(what, total) as advance:
        for item in items:
            yield item
            advance(1)
