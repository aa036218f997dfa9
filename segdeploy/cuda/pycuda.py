"""The seam over pycuda: the primary context by `retain_primary_context`, never `pycuda.autoinit`.

`autoinit` makes a second context, in which PyTorch's arrays are not valid. pycuda cannot capture
CUDA graphs. Not run on a GPU yet; see docs/verification.md.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycuda.driver as driver
from numpy.typing import DTypeLike, NDArray

from segdeploy.cuda.seam import Buffer, CudaGraph, Stream
from segdeploy.errors import SegdeployError


@contextmanager
def _checked() -> Iterator[None]:
    """Turn its errors into ours; they have the name of the call and of the error."""
    try:
        yield
    except driver.Error as error:
        out_of_memory = isinstance(error, driver.MemoryError)
        hint = "take a smaller batch or size" if out_of_memory else ""
        raise SegdeployError(str(error), hint=hint) from error


class _Stream:
    """A CUDA stream: what is put on it runs in order."""

    def __init__(self) -> None:
        with _checked():  # 1: CU_STREAM_NON_BLOCKING, it waits for nobody's legacy stream
            self.pycuda_stream: Any = driver.Stream(1)
        self.handle = int(self.pycuda_stream.handle)

    def wait(self) -> None:
        """Block until all that is on the stream has run."""
        with _checked():
            self.pycuda_stream.synchronize()

    def close(self) -> None:
        """Destroy it."""
        self.pycuda_stream = None  # pycuda does so with the last reference


class _Buffer:
    """An array in pinned host memory (`host`) and as many bytes on the GPU (`address`)."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        with _checked():
            self.host: NDArray[Any] = driver.pagelocked_empty(shape, np.dtype(dtype))
            self._memory = driver.mem_alloc(max(self.host.nbytes, 1))
        self.address = int(self._memory)

    def upload(self, stream: Any) -> None:
        """Put a copy from the host to the GPU on the stream."""
        with _checked():
            driver.memcpy_htod_async(self._memory, self.host, stream.pycuda_stream)

    def download(self, stream: Any) -> None:
        """Put a copy from the GPU to the host on the stream."""
        with _checked():
            driver.memcpy_dtoh_async(self.host, self._memory, stream.pycuda_stream)

    def close(self) -> None:
        """Free both; `host` must not be used after."""
        with _checked():
            self._memory.free()
        self.host = np.empty(0, self.host.dtype)  # pinned memory goes with its last reference


class Gpu:
    """One GPU by its primary context."""

    has_graphs = False

    def __init__(self, index: int) -> None:
        with _checked():
            driver.init()
            self._context: Any = driver.Device(index).retain_primary_context()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it this thread's GPU, and give the thread its own back."""
        with _checked():
            self._context.push()
        try:
            yield
        finally:
            driver.Context.pop()

    def stream(self) -> Stream:
        """A stream of its own."""
        return _Stream()

    def buffer(self, shape: tuple[int, ...], dtype: DTypeLike) -> Buffer:
        """Memory on both sides."""
        return _Buffer(shape, dtype)

    def capture(self, stream: Stream, work: Callable[[], None]) -> CudaGraph:
        """Refused: pycuda has no call for it."""
        raise SegdeployError(
            "pycuda cannot capture CUDA graphs",
            hint="pip install 'segdeploy[cuda]' and take the package cuda-python",
        )

    def close(self) -> None:
        """Let go of the context."""
        self._context = None  # pycuda releases it with the last reference
