"""The short way in, and what all examples promise."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segdeploy.images import overlay, read_image, read_labels, write_png
from segdeploy.spec import ClassSet, Images, Size

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))


def test_an_image_becomes_labels_and_a_picture(
    start: Callable[..., Any],
    engine_path: Path,
    direct: Callable[..., Any],
    blocks: Callable[..., Images],
    tmp_path: Path,
) -> None:
    (image,) = blocks(Size(100, 140))
    write_png(tmp_path / "street.png", image)

    ended = start("script", engine_path, tmp_path / "street.png", "--out", tmp_path / "masks")

    labels = read_labels(tmp_path / "masks" / "street-labels.png")
    assert ended == (0, "", "")
    np.testing.assert_array_equal(labels, direct(image))
    np.testing.assert_array_equal(
        read_image(tmp_path / "masks" / "street-overlay.png"),
        overlay(image, labels, ClassSet.numbered(7)),
    )


def test_a_program_of_its_own_ends_with_two_lines_and_1(tmp_path: Path) -> None:
    program = [sys.executable, "-W", "error", str(EXAMPLES / "script.py")]

    ended = subprocess.run(
        [*program, "gone.ort", "street.png"], capture_output=True, text=True, cwd=tmp_path
    )

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        "error: gone.ort: no such file\nhint: segdeploy build-engine writes it\n"
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("script", ["gone.ort", "street.png"]),
        ("service", ["--artifact", "gone.ort"]),
        ("asynchronous", ["gone.ort", "street.png"]),
    ],
)
def test_what_a_user_can_put_right_takes_two_lines(
    start: Callable[..., Any], name: str, arguments: list[str]
) -> None:
    ended = start(name, *arguments)

    assert ended.code == "error: gone.ort: no such file\nhint: segdeploy build-engine writes it"
    assert ended.out == ""
    assert "Traceback" not in ended.err


def test_a_device_that_is_none_is_refused(start: Callable[..., Any], engine_path: Path) -> None:
    ended = start("script", engine_path, "street.png", "--device", "gpu")

    assert ended.code == "error: device 'gpu'; wanted cpu, cuda or cuda:N"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_every_example_says_how_it_is_run_and_stands_in_the_readme(program: Path) -> None:
    assert f"python examples/{program.name} " in program.read_text().split('"""')[1]
    assert f"({program.name})" in (EXAMPLES / "README.md").read_text()
