"""The command line: a command parses, calls one function and prints."""

from segdeploy.cli.commands import app
from segdeploy.cli.printing import run


def main() -> None:
    """The entry point: errors of the user's become two lines and exit code 1."""
    run(app)


__all__ = ["app", "main"]
