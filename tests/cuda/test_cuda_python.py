"""The seam over cuda-python: its order of calls with a double, its errors and copies for real."""

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segdeploy.cuda import driver_problem
from segdeploy.errors import SegdeployError

pytest.importorskip("cuda.bindings.runtime", exc_type=ImportError)

from cuda.bindings import runtime as real

from segdeploy.cuda import cuda_python
from segdeploy.cuda.seam import CudaPackage, open_gpu

without_driver = pytest.mark.skipif(driver_problem() is None, reason="there is a GPU")
FAILED = real.cudaError_t.cudaErrorUnknown
NO_MEMORY = real.cudaError_t.cudaErrorMemoryAllocation
ON_GPU = 0xD000  # the address that cudaMalloc gives
RESULTS = {
    "cudaMalloc": ON_GPU,
    "cudaStreamCreateWithFlags": 7,
    "cudaStreamEndCapture": "graph",
    "cudaGraphInstantiate": "runnable",
}


class FakeRuntime:
    """Records the calls; `failures` has the error of those that shall fail."""

    cudaError_t = real.cudaError_t  # noqa: N815
    cudaMemcpyKind = real.cudaMemcpyKind  # noqa: N815
    cudaStreamCaptureMode = real.cudaStreamCaptureMode  # noqa: N815
    cudaStreamNonBlocking = real.cudaStreamNonBlocking  # noqa: N815

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failures: dict[str, Any] = {}
        self.pinned: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        return lambda *arguments: self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        self.calls.append((name, *arguments))
        if name in self.failures:
            return self.failures[name], None
        success = real.cudaError_t.cudaSuccess
        if name == "cudaHostAlloc":
            self.pinned.append(ctypes.create_string_buffer(arguments[0]))
            return success, ctypes.addressof(self.pinned[-1])
        return (success, RESULTS[name]) if name in RESULTS else (success,)

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    fake = FakeRuntime()
    monkeypatch.setattr(cuda_python, "cudart", fake)
    return fake


@pytest.fixture
def gpu(driver, runtime) -> cuda_python.Gpu:
    made = cuda_python.Gpu(0)
    driver.calls.clear()
    return made


@without_driver
def test_an_error_names_the_call_and_the_cause():
    with pytest.raises(SegdeployError, match=r"cudaMalloc failed: cudaError"):
        cuda_python._Buffer((1, 4, 4, 3), np.uint8)
    with pytest.raises(SegdeployError, match=r"cudaStreamCreate failed: cudaError"):
        cuda_python._Stream()


@without_driver
def test_a_gpu_without_a_driver_is_an_error_and_no_crash():
    with pytest.raises(SegdeployError, match="no NVIDIA driver"):
        cuda_python.Gpu(0)


def test_a_gpu_makes_its_context_current_and_lets_go_of_it(gpu, driver):
    with gpu.current():
        pass
    gpu.close()

    assert driver.names == [
        "cuCtxPushCurrent_v2",
        "cuCtxPopCurrent_v2",
        "cuDevicePrimaryCtxRelease_v2",
    ]
    assert gpu.has_graphs


def test_a_stream_waits_for_nobody_elses_work(gpu, runtime):
    stream = gpu.stream()
    stream.wait()
    stream.close()

    assert stream.handle == 7
    assert runtime.calls == [
        ("cudaStreamCreateWithFlags", real.cudaStreamNonBlocking),
        ("cudaStreamSynchronize", 7),
        ("cudaStreamDestroy", 7),
    ]


def test_a_buffer_is_as_large_on_the_gpu_as_on_the_host(gpu, runtime):
    buffer = gpu.buffer((2, 3), np.float32)

    assert (buffer.host.shape, buffer.host.dtype, buffer.address) == ((2, 3), np.float32, ON_GPU)
    assert runtime.calls == [("cudaMalloc", 24), ("cudaHostAlloc", 24, 0)]


def test_what_is_written_to_a_buffer_lies_in_pinned_memory(gpu, runtime):
    buffer = gpu.buffer((4,), np.uint8)

    buffer.host[...] = (1, 2, 3, 4)

    assert runtime.pinned[0].raw == bytes((1, 2, 3, 4))


def test_copies_go_the_way_that_they_say_on_the_stream_that_is_given(gpu, runtime):
    buffer = gpu.buffer((4,), np.uint8)
    pinned = ctypes.addressof(runtime.pinned[0])
    runtime.calls.clear()

    buffer.upload(SimpleNamespace(handle=1))
    buffer.download(SimpleNamespace(handle=2))

    kind = real.cudaMemcpyKind
    assert runtime.calls == [
        ("cudaMemcpyAsync", ON_GPU, pinned, 4, kind.cudaMemcpyHostToDevice, 1),
        ("cudaMemcpyAsync", pinned, ON_GPU, 4, kind.cudaMemcpyDeviceToHost, 2),
    ]


def test_closing_a_buffer_frees_both_sides_and_leaves_no_array_over_them(gpu, runtime):
    buffer = gpu.buffer((4,), np.uint8)
    pinned = ctypes.addressof(runtime.pinned[0])
    runtime.calls.clear()

    buffer.close()

    assert runtime.calls == [("cudaFreeHost", pinned), ("cudaFree", ON_GPU)]
    assert buffer.host.size == 0


def test_an_empty_buffer_still_has_an_address(gpu, runtime):
    buffer = gpu.buffer((0, 3), np.uint8)

    assert buffer.host.shape == (0, 3)
    assert runtime.calls[0] == ("cudaMalloc", 1)


def test_memory_that_runs_out_has_a_hint(gpu, runtime):
    runtime.failures["cudaMalloc"] = NO_MEMORY

    with pytest.raises(
        SegdeployError, match="cudaMalloc failed: cudaErrorMemoryAllocation"
    ) as caught:
        gpu.buffer((4,), np.uint8)

    assert "smaller batch" in caught.value.hint


def test_memory_on_the_gpu_is_freed_when_there_is_none_on_the_host(gpu, runtime):
    runtime.failures["cudaHostAlloc"] = NO_MEMORY

    with pytest.raises(SegdeployError, match="cudaHostAlloc failed"):
        gpu.buffer((4,), np.uint8)

    assert runtime.calls[-1] == ("cudaFree", ON_GPU)


def test_work_is_captured_once_and_launched_as_a_whole(gpu, runtime):
    stream = SimpleNamespace(handle=7)

    graph = gpu.capture(stream, lambda: runtime.calls.append(("work",)))
    graph.launch(stream)
    graph.launch(stream)
    graph.close()

    mode = real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    assert runtime.calls == [
        ("cudaStreamBeginCapture", 7, mode),
        ("work",),
        ("cudaStreamEndCapture", 7),
        ("cudaGraphInstantiate", "graph", 0),
        ("cudaGraphDestroy", "graph"),
        ("cudaGraphLaunch", "runnable", 7),
        ("cudaGraphLaunch", "runnable", 7),
        ("cudaGraphExecDestroy", "runnable"),
    ]


def test_work_that_fails_ends_the_capture_and_keeps_its_error(gpu, runtime):
    with pytest.raises(ZeroDivisionError):
        gpu.capture(SimpleNamespace(handle=7), lambda: 1 // 0)

    assert runtime.calls[1:] == [("cudaStreamEndCapture", 7), ("cudaGraphDestroy", "graph")]


def test_work_that_broke_the_capture_keeps_its_error(gpu, runtime):
    runtime.failures["cudaStreamEndCapture"] = FAILED

    with pytest.raises(ZeroDivisionError):
        gpu.capture(SimpleNamespace(handle=7), lambda: 1 // 0)

    assert "cudaGraphDestroy" not in runtime.names


@pytest.mark.parametrize("call", ["cudaStreamBeginCapture", "cudaStreamEndCapture"])
def test_a_capture_that_cuda_refuses_is_an_error(gpu, runtime, call):
    runtime.failures[call] = FAILED

    with pytest.raises(SegdeployError, match=f"{call} failed: cudaErrorUnknown"):
        gpu.capture(SimpleNamespace(handle=7), lambda: None)

    assert "cudaGraphInstantiate" not in runtime.names


def test_a_graph_that_cannot_be_instantiated_is_destroyed(gpu, runtime):
    runtime.failures["cudaGraphInstantiate"] = FAILED

    with pytest.raises(SegdeployError, match="cudaGraphInstantiate failed"):
        gpu.capture(SimpleNamespace(handle=7), lambda: None)

    assert runtime.calls[-1] == ("cudaGraphDestroy", "graph")


@pytest.mark.gpu
@pytest.mark.parametrize("package", [CudaPackage.CUDA_PYTHON, CudaPackage.PYCUDA])
def test_what_is_uploaded_is_downloaded(package):
    if package is CudaPackage.PYCUDA:
        pytest.importorskip("pycuda")
    gpu = open_gpu(0, package)
    sent = np.arange(6, dtype=np.float32).reshape(2, 3)

    with gpu.current():
        stream, buffer = gpu.stream(), gpu.buffer((2, 3), np.float32)
        buffer.host[...] = sent
        buffer.upload(stream)
        stream.wait()
        buffer.host[...] = 0
        buffer.download(stream)
        stream.wait()
        found = buffer.host.copy()
        buffer.close()
        stream.close()
    gpu.close()

    np.testing.assert_array_equal(found, sent)


@pytest.mark.gpu
def test_a_captured_copy_runs_when_it_is_launched():
    gpu = cuda_python.Gpu(0)

    with gpu.current():
        stream, buffer = gpu.stream(), gpu.buffer((4,), np.uint8)
        buffer.host[...] = 9
        graph = gpu.capture(stream, lambda: buffer.upload(stream))
        buffer.host[...] = 5  # after the capture: what is launched reads it
        graph.launch(stream)
        stream.wait()
        buffer.host[...] = 0
        buffer.download(stream)
        stream.wait()
        found = buffer.host.copy()
        for part in (graph, buffer, stream):
            part.close()
    gpu.close()

    assert found.tolist() == [5] * 4
