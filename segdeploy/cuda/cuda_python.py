"""The seam over cuda-python (`cuda.bindings.runtime`), whose calls return an error code first.

Not run on a GPU yet; see docs/verification.md.
"""

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import DTypeLike, NDArray

from segdeploy.cuda.context import PrimaryContext
from segdeploy.cuda.seam import Buffer, CudaGraph, Stream
from segdeploy.errors import SegdeployError


class _Stream:
    """A CUDA stream: what is put on it runs in order."""

    def __init__(self) -> None:
        # Not the default kind: it would wait for everybody's work on the legacy stream.
        flags = cudart.cudaStreamNonBlocking
        self._stream = _checked("cudaStreamCreate", cudart.cudaStreamCreateWithFlags(flags))
        self.handle = int(self._stream)

    def wait(self) -> None:
        """Block until all that is on the stream has run."""
        _checked("cudaStreamSynchronize", cudart.cudaStreamSynchronize(self._stream))

    def close(self) -> None:
        """Destroy it."""
        _checked("cudaStreamDestroy", cudart.cudaStreamDestroy(self._stream))


class _Buffer:
    """An array in pinned host memory (`host`) and as many bytes on the GPU (`address`)."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        item = np.dtype(dtype)
        self._bytes = max(int(np.prod(shape)) * item.itemsize, 1)
        self.address = int(_checked("cudaMalloc", cudart.cudaMalloc(self._bytes)))
        try:
            self._pinned = int(_checked("cudaHostAlloc", cudart.cudaHostAlloc(self._bytes, 0)))
        except SegdeployError:
            cudart.cudaFree(self.address)
            raise
        memory = (ctypes.c_uint8 * self._bytes).from_address(self._pinned)
        self.host: NDArray[Any] = np.ndarray(shape, item, memoryview(memory))

    def upload(self, stream: Stream) -> None:
        """Put a copy from the host to the GPU on the stream."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.address, self._pinned, kind, stream)

    def download(self, stream: Stream) -> None:
        """Put a copy from the GPU to the host on the stream."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(self._pinned, self.address, kind, stream)

    def _copy(self, target: int, source: int, kind: Any, stream: Stream) -> None:
        result = cudart.cudaMemcpyAsync(target, source, self._bytes, kind, stream.handle)
        _checked("cudaMemcpyAsync", result)

    def close(self) -> None:
        """Free both; `host` must not be used after."""
        self.host = np.empty(0, self.host.dtype)
        _checked("cudaFreeHost", cudart.cudaFreeHost(self._pinned))
        _checked("cudaFree", cudart.cudaFree(self.address))


class _CudaGraph:
    """Work that was captured once and is launched as a whole."""

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        # Other threads may allocate meanwhile; the strictest mode would fail them.
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked("cudaStreamBeginCapture", cudart.cudaStreamBeginCapture(stream.handle, mode))
        try:
            work()
        except BaseException:
            status, graph = cudart.cudaStreamEndCapture(stream.handle)  # or it stays unusable
            if status == cudart.cudaError_t.cudaSuccess:
                cudart.cudaGraphDestroy(graph)
            raise
        graph = _checked("cudaStreamEndCapture", cudart.cudaStreamEndCapture(stream.handle))
        try:
            self._runnable = _checked("cudaGraphInstantiate", cudart.cudaGraphInstantiate(graph, 0))
        finally:
            cudart.cudaGraphDestroy(graph)

    def launch(self, stream: Stream) -> None:
        """Put the work on the stream."""
        _checked("cudaGraphLaunch", cudart.cudaGraphLaunch(self._runnable, stream.handle))

    def close(self) -> None:
        """Destroy it."""
        _checked("cudaGraphExecDestroy", cudart.cudaGraphExecDestroy(self._runnable))


class Gpu:
    """One GPU by its primary context."""

    has_graphs = True

    def __init__(self, index: int) -> None:
        self._context = PrimaryContext(index)

    def current(self) -> AbstractContextManager[None]:
        """Make it this thread's GPU, and give the thread its own back."""
        return self._context.current()

    def stream(self) -> Stream:
        """A stream of its own."""
        return _Stream()

    def buffer(self, shape: tuple[int, ...], dtype: DTypeLike) -> Buffer:
        """Memory on both sides."""
        return _Buffer(shape, dtype)

    def capture(self, stream: Stream, work: Callable[[], None]) -> CudaGraph:
        """Record what `work` puts on `stream`, without running it."""
        return _CudaGraph(stream, work)

    def close(self) -> None:
        """Let go of the context."""
        self._context.close()


def _checked(call: str, result: tuple[Any, ...]) -> Any:
    """What the call returned beside its error code."""
    status, *values = result
    if status == cudart.cudaError_t.cudaSuccess:
        return values[0] if values else None
    hint = "take a smaller batch or size" if status.name == "cudaErrorMemoryAllocation" else ""
    raise SegdeployError(f"{call} failed: {status.name}", hint=hint)
