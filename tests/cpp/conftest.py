"""The C++ library, built once, and artifacts for it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_library import ONNXRUNTIME, Library
from cpp_build import HEADERS, ROOT, SIZE, lacks, missing, run
from filelock import FileLock

from segdeploy.artifacts import Artifact, EnginePlan, Graph, Store
from segdeploy.graph import read_graph
from segdeploy.images import write_png
from segdeploy.pipeline.make import EngineRequest, engine_of_graph
from segdeploy.spec import Method, Precision, Runtime


@pytest.fixture(scope="session")
def build_with(pytestconfig: pytest.Config) -> Callable[..., Path]:
    """Called with a name and CMake's options: a build that is kept between runs, so mostly done."""
    if lacking := missing():
        lacks("cpp", f"building cpp/ needs {lacking}; make cpp-headers fetches the headers")

    def build(name: str, *options: str) -> Path:
        assert pytestconfig.cache is not None
        folder = pytestconfig.cache.mkdir(name)
        generator = ("-G", "Ninja") if shutil.which("ninja") else ()
        both = ("-DSEGDEPLOY_TESTS=ON", f"-DCMAKE_PREFIX_PATH={HEADERS.parent}")
        with FileLock(folder.with_suffix(".lock")):
            run("cmake", "-S", ROOT / "cpp", "-B", folder, *generator, *both, *options)
            run("cmake", "--build", folder, "--parallel", "2")
        return folder

    return build


@pytest.fixture(scope="session")
def build(build_with: Callable[..., Path]) -> Path:
    """The folder of a build with tools, examples and tests."""
    return build_with("cpp-build", "-DSEGDEPLOY_WERROR=ON", "-DCMAKE_BUILD_TYPE=Release")


@pytest.fixture(scope="session")
def library(build: Path) -> Library:
    return Library(build / "libsegdeploy.so", ONNXRUNTIME)


@pytest.fixture(scope="session")
def segdeploy_run(build: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Called with the arguments of the program, and options of `subprocess.run`."""

    def call(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [build / "tools" / "segdeploy-run", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "SEGDEPLOY_ONNXRUNTIME": str(ONNXRUNTIME)},
            **options,
        )

    return call


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory, blocks: Callable[..., np.ndarray]) -> Path:
    """A folder of images that int8 is calibrated with."""
    folder = tmp_path_factory.mktemp("frames")
    for seed in range(2):
        write_png(folder / f"{seed}.png", blocks(SIZE, seed=seed)[0])
    return folder


@pytest.fixture(scope="session")
def artifacts(
    exported: Callable[..., Graph],
    frames: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Method, Precision], dict[str, Artifact]]:
    """A graph, which makes its labels itself, and its engine, whose labels a session makes."""
    made: dict[tuple[Method, Precision], dict[str, Artifact]] = {}

    def make(method: Method, precision: Precision) -> dict[str, Artifact]:
        if (method, precision) not in made:
            graph = exported(method)
            request = EngineRequest(
                precision=precision,
                runtime=Runtime.ONNXRUNTIME,
                calibration=str(frames) if precision is Precision.INT8 else None,
                store=Store(tmp_path_factory.mktemp("store")),
            )
            engine = engine_of_graph(graph, request).plan
            if precision is Precision.INT8:
                graph = read_graph(engine.find_source())
            made[method, precision] = {"graph": graph, "engine": engine}
        return made[method, precision]

    return make


@pytest.fixture(scope="session")
def engine(artifacts: Callable[..., dict[str, Artifact]]) -> EnginePlan:
    """The smallest of them."""
    plan = artifacts(Method.FCN, Precision.FP32)["engine"]
    assert isinstance(plan, EnginePlan)
    return plan
