"""Memory on the GPU with its pinned double on the host, and the stream that copies between them.

A thin layer over cuda-python (`cuda.bindings.runtime`); its calls return an error code first.
"""

import ctypes
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import DTypeLike, NDArray

from segdeploy.errors import SegdeployError


class Stream:
    """A CUDA stream: what is put on it runs in order."""

    def __init__(self) -> None:
        self._stream = _checked("cudaStreamCreate", cudart.cudaStreamCreate())

    @property
    def handle(self) -> int:
        """The cudaStream_t as an integer, which TensorRT takes."""
        return int(self._stream)

    def wait(self) -> None:
        """Block until all that is on the stream has run."""
        _checked("cudaStreamSynchronize", cudart.cudaStreamSynchronize(self._stream))

    def close(self) -> None:
        """Destroy the stream."""
        _checked("cudaStreamDestroy", cudart.cudaStreamDestroy(self._stream))


class Buffer:
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


def _checked(call: str, result: tuple[Any, ...]) -> Any:
    """What the call returned beside its error code."""
    status, *values = result
    if status == cudart.cudaError_t.cudaSuccess:
        return values[0] if values else None
    hint = "take a smaller batch or size" if status.name == "cudaErrorMemoryAllocation" else ""
    raise SegdeployError(f"{call} failed: {status.name}", hint=hint)
