"""Engines and sessions of TensorRT on a simulated GPU."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_gpu import VERSION, OnGpu, SimulatedEvent, SimulatedGpu, SimulatedLibrary, World

from segdeploy.artifacts import EnginePlan, Manifest, sha256_of
from segdeploy.build_record import BuildRecord
from segdeploy.cuda import GpuFacts
from segdeploy.cuda.arrays import DeviceArray
from segdeploy.errors import SegdeployError
from segdeploy.runtime import RunOptions, Session, in_place, tensorrt, tensorrt_session
from segdeploy.runtime.tensorrt import TensorRTEngine
from segdeploy.shapes import TensorInfo
from segdeploy.spec import ClassSet, Device, Method, Runtime


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, world: World) -> SimulatedLibrary:
    """A machine with an A100, TensorRT and a CUDA package, none of them real."""
    fake = SimulatedLibrary(world)
    monkeypatch.setattr(SimulatedEvent, "world", world, raising=False)
    monkeypatch.setattr(tensorrt_session, "Event", SimulatedEvent)
    monkeypatch.setattr(tensorrt, "require_driver", lambda what: None)
    monkeypatch.setattr(tensorrt, "load_library", lambda runtime: fake)
    monkeypatch.setattr(tensorrt, "describe_gpu", lambda number: GpuFacts("NVIDIA A100", "8.0"))
    monkeypatch.setattr(tensorrt, "system_name", lambda: "Linux x86_64")
    monkeypatch.setattr(tensorrt, "open_gpu", lambda number, package: SimulatedGpu(world))

    def device_array(array: Any, dtype: Any, *, what: str, **place: Any) -> DeviceArray:
        if not isinstance(array, OnGpu):
            raise SegdeployError(f"{what}: is not on a GPU")
        return DeviceArray(array.pointer, array.shape, array)

    monkeypatch.setattr(in_place, "device_array", device_array)
    return fake


@pytest.fixture
def on_gpu(world: World) -> Callable[[np.ndarray], OnGpu]:
    return lambda values: OnGpu(world, values)


GPU = Device("cuda")
BUILD = BuildRecord(
    os="Linux x86_64",
    gpu="NVIDIA A100",
    compute_capability="8.0",
    inputs=(TensorInfo("image", "uint8", (-1, -1, -1, 3)),),
    outputs=(TensorInfo("labels", "uint8", (-1, -1, -1)),),
)
MANIFEST = Manifest(
    model="demo",
    method=Method.FCN,
    classes=ClassSet.numbered(2),
    size=None,
    batch=None,
    runtime=Runtime.TENSORRT,
    runtime_version=VERSION,
    build=BUILD,
)


@pytest.fixture
def plan(tmp_path: Path) -> EnginePlan:
    path = tmp_path / "model.plan"
    path.write_bytes(b"plan")
    return EnginePlan(path, replace(MANIFEST, sha256=sha256_of(path)))


@pytest.fixture
def of_one_size(library: Any, plan: EnginePlan) -> Callable[..., EnginePlan]:
    """Called with a shape: the plan of an engine that takes no other."""

    def make(shape: tuple[int, ...]) -> EnginePlan:
        library.engine.shape, library.engine.profiles = shape, [[shape, shape, shape]]
        build = replace(
            BUILD,
            inputs=(TensorInfo("image", "uint8", shape),),
            outputs=(TensorInfo("labels", "uint8", shape[:3]),),
        )
        return replace(plan, manifest=replace(plan.manifest, build=build))

    return make


@pytest.fixture
def engine(library: Any, plan: EnginePlan) -> Iterator[TensorRTEngine]:
    with TensorRTEngine(plan, GPU, RunOptions()) as opened:
        yield opened


@pytest.fixture
def session(engine: TensorRTEngine) -> Iterator[Session]:
    with engine.session() as made:
        yield made
