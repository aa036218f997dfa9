"""`segdeploy bench --suite`: what belongs together, and the lock that re-creates it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdeploy.errors import SegdeployError
from segdeploy.recipes import load_suite, suite_names

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


USED = {"data", "device", "json", "report", "html", "suite", "lock", "locked"}  # with a suite


def check_unused(context: typer.Context) -> None:
    """Refuse what a suite says itself: its result would bear a command that it did not follow."""
    given = []
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source and source.name == "COMMANDLINE" and parameter.name not in USED:
            given.append(parameter.opts[0] if parameter.opts[0].startswith("-") else "MODEL")
    if given:
        raise typer.BadParameter(f"a suite says itself what it runs: leave out {', '.join(given)}")


def bench_suite(name: str | None, locked: Path | None, options: "SuiteOptions") -> None:
    """Run a suite, or the one that a lock names, and show its rows."""
    from dataclasses import replace

    from segdeploy.bench.lock import Lock
    from segdeploy.bench.suite import run_suite

    lock = None if locked is None else Lock.load(locked)
    if lock is not None and name is None and lock.suite not in suite_names():
        raise SegdeployError(
            f"{locked}: is of {lock.suite}, which is no suite of segdeploy's own",
            hint=f"name its file: --suite {lock.suite}.toml",
        )
    if lock is None and name is None:
        raise SegdeployError("--lock goes with --suite", hint="--suite quick")
    suite = load_suite(name or (lock.suite if lock else ""))
    run_suite(suite, replace(options, locked=lock))
