"""The README shows every command."""

from pathlib import Path

import pytest
import typer

from segdeploy.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize("command", typer.main.get_command(app).commands)
def test_every_command_is_shown_in_the_readme(command):
    assert f"segdeploy {command}" in README
