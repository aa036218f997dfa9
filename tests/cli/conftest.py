"""The command line, run in this process, and a tiny model to run it on."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from segdeploy.cli import main
from segdeploy.images import write_png
from segdeploy.nets.checkpoint import random_checkpoint
from segdeploy.recipes import load_model
from segdeploy.runtime.pytorch import PyTorchSession
from segdeploy.spec import Size

SIZE = Size(64, 96)
MODEL = """method = "fcn"
license = "MIT"
classes = "classes.toml"
size = [64, 96]
width = 0.35
head_channels = 16
checkpoint = "tiny.pth"
"""
CLASSES = """classes = [
  { name = "road", rgb = [128, 64, 128] },
  { name = "car", rgb = [0, 0, 142] },
  { name = "sky", rgb = [70, 130, 180] },
]
"""


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    def assert_error(self, problem: str) -> None:
        """Exit 1, nothing on stdout, one line for the problem and at most one for the hint."""
        lines = self.err.splitlines()
        assert self.code == 1
        assert self.out == ""
        assert re.search(problem, lines[-2 if lines[-1].startswith("hint: ") else -1])
        assert lines[0].startswith("error: ")
        assert len(lines) <= 2
        assert "Traceback" not in self.err


@pytest.fixture
def segdeploy(monkeypatch, capfd) -> Callable[..., Ended]:
    """Run the command line in this process, in the current folder."""
    monkeypatch.delenv("SEGDEPLOY_DATA", raising=False)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["segdeploy", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfd.readouterr()
        return Ended(caught.value.code or 0, out, err)

    return run


@pytest.fixture(scope="session")
def workspace(tmp_path_factory, blocks) -> Path:
    """A tiny model, its weights, and a data set whose labels are what PyTorch makes of them."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "tiny.toml").write_text(MODEL)
    for place in (folder, folder / "scenes"):
        place.mkdir(exist_ok=True)
        (place / "classes.toml").write_text(CLASSES)
    spec = load_model(str(folder / "tiny.toml"))
    checkpoint = random_checkpoint(spec, seed=0)
    torch.save({"state_dict": checkpoint.state}, folder / "tiny.pth")
    images = blocks(SIZE, count=4)
    with PyTorchSession(spec, checkpoint) as session:
        labels = session.run(images)
    for k in range(4):
        write_png(folder / "scenes" / "images" / f"{k}.png", images[k])
        write_png(folder / "scenes" / "labels" / f"{k}.png", labels[k])
        write_png(folder / "frames" / f"frame{k}.png", blocks(SIZE, seed=k + 1)[0])
    return folder


@pytest.fixture
def inside(workspace, monkeypatch) -> Path:
    monkeypatch.chdir(workspace)
    return workspace


@pytest.fixture(scope="session")
def graph(workspace) -> Path:
    """The tiny model, exported by the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        patch.setattr("sys.argv", ["segdeploy", "export", "tiny.toml"])
        with pytest.raises(SystemExit, match="0"):
            main()
    return workspace / "artifacts" / "tiny" / "fp32.onnx"


@pytest.fixture(scope="session")
def tiny_toml() -> str:
    """What describes the tiny model."""
    return MODEL
