"""TensorRT sessions: what is refused before the first device call, and the order of the calls.

What needs a GPU is played by `FakeLibrary` and `FakeMemory`, which record what is asked of them.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from segdeploy.artifacts import Manifest
from segdeploy.errors import SegdeployError
from segdeploy.runtime import tensorrt
from segdeploy.runtime.tensorrt import TensorRTSession
from segdeploy.spec import ClassSet, Method, Runtime

VERSION = "10.9.0.34"


def manifest(runtime: Runtime | None = Runtime.TENSORRT, version: str = VERSION) -> Manifest:
    return Manifest(
        model="demo",
        method=Method.FCN,
        classes=ClassSet.numbered(2),
        runtime=runtime,
        runtime_version=version,
    )


class FakeContext:
    """Accepts batches of up to two images; the "network" returns the first channel."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, FakeBuffer] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.calls.append(f"shape {name} {shape}")
        self.shape = shape
        return shape[0] <= 2

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == "image" else self.shape[:3]

    def set_tensor_address(self, name: str, address: Any) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.calls.append("execute")
        self.addresses["labels"].device = self.addresses["image"].device[..., 0].copy()
        return True


class FakeEngine:
    """One input and one output, as the engine of a labels graph has."""

    num_io_tensors = 2

    def __init__(self, calls: list[str]) -> None:
        self.context = FakeContext(calls)

    def get_tensor_name(self, index: int) -> str:
        return ("image", "labels")[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"image": "input", "labels": "output"}[name]

    def get_tensor_dtype(self, name: str) -> str:
        return "uint8"

    def create_execution_context(self) -> FakeContext:
        return self.context


class FakeBuffer:
    """Host and device memory as two arrays; its address is itself."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.host = np.zeros(shape, dtype)
        self.device = np.zeros(shape, dtype)
        self.is_open = True

    @property
    def address(self) -> Self:
        return self

    def upload(self, stream: Any) -> None:
        self.device[...] = self.host

    def download(self, stream: Any) -> None:
        self.host[...] = self.device

    def close(self) -> None:
        self.is_open = False


class FakeStream:
    handle = 7

    def __init__(self) -> None:
        self.is_open = True

    def wait(self) -> None:
        pass

    def close(self) -> None:
        self.is_open = False


class FakeLibrary(ModuleType):
    """A TensorRT whose runtime loads every plan that is not empty."""

    __version__ = VERSION
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    nptype = staticmethod(np.dtype)

    class ILogger:
        """Only a base class."""

    def __init__(self) -> None:
        super().__init__("tensorrt")
        self.calls: list[str] = []
        self.engine = FakeEngine(self.calls)

    def Runtime(self, log: Any) -> SimpleNamespace:  # noqa: N802
        def deserialize(plan: bytes) -> FakeEngine | None:
            if plan:
                return self.engine
            log.log(SimpleNamespace(name="ERROR"), "magicTag failed")
            return None

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    """A machine with a GPU, TensorRT and cuda-python, none of them real."""
    fake = FakeLibrary()
    memory = ModuleType("segdeploy.runtime.device_memory")
    memory.Buffer = FakeBuffer  # type: ignore[attr-defined]
    memory.Stream = FakeStream  # type: ignore[attr-defined]
    monkeypatch.setattr("segdeploy.runtime.device_memory", memory, raising=False)
    monkeypatch.setitem(sys.modules, memory.__name__, memory)
    monkeypatch.setattr(tensorrt, "require_driver", lambda what: None)
    monkeypatch.setattr(tensorrt, "load_library", lambda runtime: fake)
    return fake


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "model.plan"
    path.write_bytes(b"plan")
    return path


@pytest.fixture
def session(library: FakeLibrary, plan: Path) -> Iterator[TensorRTSession]:
    with TensorRTSession(plan, manifest()) as opened:
        yield opened


@pytest.mark.parametrize("runtime", [Runtime.TENSORRT, Runtime.TENSORRT_RTX])
def test_without_a_driver_the_error_says_so(
    plan: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    monkeypatch.setattr("segdeploy.cuda.DRIVER", "libno-such-driver.so.1")

    with pytest.raises(SegdeployError, match=r"engine needs an NVIDIA GPU, but there is no NVIDIA"):
        TensorRTSession(plan, manifest(runtime))


@pytest.mark.parametrize("runtime", [None, Runtime.ONNXRUNTIME])
def test_an_artifact_of_another_runtime_is_refused(plan: Path, runtime: Runtime | None) -> None:
    with pytest.raises(SegdeployError, match=r"wanted an engine of tensorrt or tensorrt-rtx"):
        TensorRTSession(plan, manifest(runtime))


@pytest.mark.usefixtures("library")
def test_a_plan_of_another_version_is_refused(plan: Path) -> None:
    with pytest.raises(SegdeployError, match=r"built with TensorRT 10\.8\.0, this is 10\.9\.0\.34"):
        TensorRTSession(plan, manifest(version="10.8.0"))


@pytest.mark.usefixtures("library")
def test_a_plan_that_does_not_load_says_why(plan: Path) -> None:
    plan.write_bytes(b"")

    with pytest.raises(SegdeployError, match=r"cannot be loaded \(magicTag failed\)"):
        TensorRTSession(plan, manifest())


def test_a_batch_goes_through_the_engine(session: TensorRTSession) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)

    labels = session.run(images)

    np.testing.assert_array_equal(labels, images[..., 0])


def test_a_result_outlives_the_next_run(session: TensorRTSession) -> None:
    first = session.run(np.full((1, 4, 6, 3), 1, np.uint8))
    session.run(np.full((1, 4, 6, 3), 2, np.uint8))

    assert (first == 1).all()


def test_the_shape_is_set_only_when_it_changes(
    library: FakeLibrary, session: TensorRTSession
) -> None:
    for size in (4, 4, 8):
        session.run(np.zeros((1, size, size, 3), np.uint8))

    assert library.calls == [
        "shape image (1, 4, 4, 3)", "execute", "execute", "shape image (1, 8, 8, 3)", "execute",
    ]  # fmt: skip


def test_a_batch_outside_the_profile_is_refused_and_the_session_lives_on(
    session: TensorRTSession,
) -> None:
    with pytest.raises(SegdeployError, match=r"refuses an image batch of shape \(3, 4, 4, 3\)"):
        session.run(np.zeros((3, 4, 4, 3), np.uint8))

    assert session.run(np.zeros((1, 4, 4, 3), np.uint8)).shape == (1, 4, 4)


def test_closing_frees_the_buffers_and_may_be_repeated(
    library: FakeLibrary, session: TensorRTSession
) -> None:
    session.run(np.zeros((1, 4, 4, 3), np.uint8))
    buffers = library.engine.context.addresses.values()

    session.close()
    session.close()

    assert [buffer.is_open for buffer in buffers] == [False, False]
