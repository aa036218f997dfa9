"""The examples, run as a user would, and a small engine of labels for them."""

import importlib.util
import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

import segdeploy
from segdeploy.artifacts import Graph
from segdeploy.images import resize, resize_labels
from segdeploy.pipeline.engines import build_engine
from segdeploy.spec import Image, LabelMap, Method, Runtime, Size

EXAMPLES = Path(__file__).parents[2] / "examples"


class Ended(NamedTuple):
    """How a program ended, and what it printed."""

    code: int | str | None
    out: str
    err: str


@pytest.fixture(scope="session")
def engine_path(exported: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine for images of 64x96 in batches of any size."""
    graph = exported(Method.FCN, batch=None)
    place = tmp_path_factory.mktemp("engine") / "narrow.ort"
    return build_engine(graph, Runtime.ONNXRUNTIME, place).plan.path


@pytest.fixture(scope="session")
def direct(engine_path: Path) -> Callable[[Image], LabelMap]:
    """The labels of an image, by nothing but a session."""

    def labels(image: Image) -> LabelMap:
        with segdeploy.open(engine_path) as engine, engine.session() as session:
            (found,) = session.run(resize(image, Size(64, 96))[np.newaxis])
        return resize_labels(found, Size(*image.shape[:2]))

    return labels


@pytest.fixture
def start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run an example by its name, as `python examples/NAME.py` does, in this process."""

    def run(name: str, *arguments: object) -> Ended:
        program = EXAMPLES / f"{name}.py"
        monkeypatch.setattr("sys.argv", [str(program), *map(str, arguments)])
        capfd.readouterr()
        code: int | str | None = 0
        try:
            runpy.run_path(str(program), run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def load() -> Callable[[str], ModuleType]:
    """Import an example by its name."""

    def run(name: str) -> ModuleType:
        found = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module

    return run
