"""The CUDA that sessions need, over either package: memory, streams, copies and graphs.

Two files have the same names in them, `cuda_python` and `pycuda`: a `Gpu`, which makes the rest.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, Protocol, assert_never

from numpy.typing import DTypeLike, NDArray

from segdeploy.errors import needs


class CudaPackage(StrEnum):
    """Which package talks to CUDA; `auto` takes pycuda where it is installed."""

    AUTO = "auto"
    PYCUDA = "pycuda"
    CUDA_PYTHON = "cuda-python"


class Stream(Protocol):
    """A CUDA stream: what is put on it runs in order."""

    @property
    def handle(self) -> int:
        """The CUstream as an integer, which TensorRT takes."""

    def wait(self) -> None:
        """Block until all that is on the stream has run."""

    def close(self) -> None:
        """Destroy it."""


class Buffer(Protocol):
    """An array in pinned host memory (`host`) and as many bytes on the GPU (`address`)."""

    host: NDArray[Any]
    address: int

    def upload(self, stream: Stream) -> None:
        """Put a copy from the host to the GPU on the stream."""

    def download(self, stream: Stream) -> None:
        """Put a copy from the GPU to the host on the stream."""

    def close(self) -> None:
        """Free both; `host` must not be used after."""


class CudaGraph(Protocol):
    """Work that was captured once and is launched as a whole."""

    def launch(self, stream: Stream) -> None:
        """Put the work on the stream."""

    def close(self) -> None:
        """Destroy it."""


class Gpu(Protocol):
    """One GPU by its primary context; everything is made and used while it is current."""

    @property
    def has_graphs(self) -> bool:
        """Whether the package can capture."""

    def current(self) -> AbstractContextManager[None]:
        """Make it this thread's GPU, and give the thread its own back."""

    def stream(self) -> Stream:
        """A stream of its own."""

    def buffer(self, shape: tuple[int, ...], dtype: DTypeLike) -> Buffer:
        """Memory on both sides."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> CudaGraph:
        """Record what `work` puts on `stream`, without running it."""

    def close(self) -> None:
        """Let go of the context."""


def open_gpu(index: int, package: CudaPackage = CudaPackage.AUTO) -> Gpu:
    """The GPU that CUDA calls `index`, through `package`.

    Raises:
        SegdeployError: the package is missing or does not load.
    """
    chosen = package
    if package is CudaPackage.AUTO:
        chosen = CudaPackage.PYCUDA if find_spec("pycuda") else CudaPackage.CUDA_PYTHON
    match chosen:
        case CudaPackage.PYCUDA:
            with needs("pycuda", extra="pycuda"):
                from segdeploy.cuda import pycuda
            return pycuda.Gpu(index)
        case CudaPackage.CUDA_PYTHON | CudaPackage.AUTO:
            with needs("cuda", extra="cuda"):
                from segdeploy.cuda import cuda_python
            return cuda_python.Gpu(index)
        case _:
            assert_never(chosen)
