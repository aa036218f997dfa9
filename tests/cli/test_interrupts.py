"""Ctrl-C: a line, the exit code of a shell, and no traceback."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.xdist_group("cli")  # one worker traces the tiny model once for all

# A job in the background of a shell starts with SIGINT ignored, and Python leaves it so.
HEAD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
SLEEPER = """
import sys, time, typer
from segdeploy.cli.printing import run
app = typer.Typer()
@app.command()
def wait():
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(600)
run(app)
"""
SEGDEPLOY = "from segdeploy.cli import main; main()"


def interrupt(program: str, *arguments: object) -> tuple[int, str, str]:
    """Run a program and interrupt it after its first line on stderr: code, stdout, the rest."""
    command = [sys.executable, "-c", HEAD + program, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_any_command_ends_with_a_line():
    assert interrupt(SLEEPER) == (130, "", "interrupted\n")


def test_a_search_for_a_load_ends_with_a_line_and_leaves_no_session_running(graph, inside):
    """The first of its many runs of a second says how it ended; the signal comes in the next."""
    options = ("--scenario", "server", "--bound-ms", 500, "--percentile", 50, "--sessions", 2)

    code, out, err = interrupt(SEGDEPLOY, "load", graph, *options, "--seconds", 1)

    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
