"""`segdeploy bench --suite`: what belongs together, and the lock that re-creates it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdeploy.cli import printing
from segdeploy.errors import SegdeployError
from segdeploy.recipes import load_suite

if TYPE_CHECKING:
    from segdeploy.bench.suite import SuiteOptions

SuiteName = Annotated[
    str | None,
    typer.Option("--suite", metavar="NAME", help="Run a suite: quick, demo, reference or a TOML."),
]
LockPath = Annotated[
    Path | None,
    typer.Option("--lock", metavar="F", help="Of a suite: write what re-creates the result."),
]
LockedPath = Annotated[
    Path | None,
    typer.Option("--locked", metavar="F", help="Run a suite only if nothing differs from a lock."),
]


def bench_suite(name: str | None, locked: Path | None, options: "SuiteOptions") -> None:
    """Run a suite, or the one that a lock names, and show its rows."""
    from dataclasses import replace

    from segdeploy.bench.lock import Lock
    from segdeploy.bench.suite import run_suite
    from segdeploy.report_page import terminal_table

    lock = None if locked is None else Lock.load(locked)
    if lock is None and name is None:
        raise SegdeployError("--lock goes with --suite", hint="--suite quick")
    suite = load_suite(name or (lock.suite if lock else ""))
    made = run_suite(suite, replace(options, locked=lock))
    printing.show_table(terminal_table(made))
