"""What is printed, and how errors end: results on stdout, all else on stderr."""

import json
import sys
from collections.abc import Mapping
from enum import Enum
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from segdeploy.errors import SegdeployError

INTERRUPTED = 130  # Typer's exit code after Ctrl-C, as of a shell: 128 + SIGINT
PIPE_WIDTH = 160  # columns of a table in a pipe, where nothing says how wide it may be


def run(app: typer.Typer) -> None:
    """Run the application; a SegdeployError ends it with two lines and exit code 1.

    Ctrl-C ends it with one line and exit code 130.
    """
    try:
        app()
    except SegdeployError as error:
        print(error.to_lines(), file=sys.stderr)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        raise
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        sys.exit(0)


def note(text: str) -> None:
    """A line for people that is not the result."""
    print(text, file=sys.stderr)


def show_json(value: Any) -> None:
    """The result for machines."""
    print(json.dumps(value, indent=1, default=_plain))


def show_table(table: Table) -> None:
    """The result as a table: coloured on a terminal, plain in a pipe."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)


def show_facts(facts: Mapping[str, Any]) -> None:
    """The result as aligned `name  value` lines; empty values are left out."""
    shown = {name: value for name, value in facts.items() if value not in ("", None, ())}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  {value}")


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)
