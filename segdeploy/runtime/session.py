"""What a service holds: an engine for all threads, and a session for each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray

from segdeploy.artifacts import Manifest
from segdeploy.closing import Closing
from segdeploy.cuda.seam import CudaPackage
from segdeploy.errors import SegdeployError
from segdeploy.spec import Device, Images

MAX_THREADS = 1024  # more than any machine has cores; ONNX Runtime starts as many as it is told


class Provider(StrEnum):
    """Which part of ONNX Runtime runs a graph on a GPU."""

    CUDA = "cuda"
    TENSORRT = "tensorrt"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How an engine is loaded and run.

    Args:
        threads: of a CPU runtime, up to 1024, shared by all sessions; 0: one for each physical core
            that this process may use. PyTorch is left its own choice.
        cuda_package: what talks to CUDA for a TensorRT engine.
        cuda_graph: replay the work of a shape that came before; TensorRT with cuda-python only.
        provider: of ONNX Runtime, on a GPU.
        lean_runtime: the file libnvinfer_lean of the TensorRT that built a version-compatible plan,
            with which another version loads it.
    """

    threads: int = 0
    cuda_package: CudaPackage = CudaPackage.AUTO
    cuda_graph: bool = False
    provider: Provider = Provider.CUDA
    lean_runtime: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threads <= MAX_THREADS:
            raise SegdeployError(f"threads: are {self.threads}; wanted 0 to {MAX_THREADS}")


class Session(Closing, Protocol):
    """Runs a loaded model, in one thread at a time: pixels in, labels or logits out.

    Which of both, and of which sizes, says its manifest. It is a context manager. Used after it is
    closed, in a forked process, or by two threads at once, it raises a SegdeployError.
    """

    @property
    def manifest(self) -> Manifest:
        """What is loaded."""

    @property
    def device(self) -> Device:
        """Where it runs."""

    def run(self, images: Images) -> NDArray[Any]:
        """(N, H, W, 3) uint8 RGB -> labels (N, H, W) uint8 or logits (N, classes, h, w) float32."""

    def map(self, batches: Iterable[Images]) -> Iterator[NDArray[Any]]:
        """`run` of each batch, in order; on a GPU copies overlap with the work before and after."""

    def enqueue(self, images: Any, result: Any, stream: Any = None) -> None:
        """`run` on arrays of the caller, in place.

        Args:
            images: (N, H, W, 3) uint8 on the session's device.
            result: what `run` returns, to be written to.
            stream: of CUDA, on which the work is put; the caller waits for it, and the arrays are
                kept alive until then. None on a CPU, where the result is there on return.

        Raises:
            SegdeployError: an array is on another device, of another dtype, shape or layout.
        """


class Split(NamedTuple):
    """What `run` returns, and the GPU's milliseconds for each part of the way."""

    result: NDArray[Any]
    upload_ms: float
    compute_ms: float
    download_ms: float


@runtime_checkable
class Splitting(Protocol):
    """A session that can tell the copies from the work between them."""

    def split(self, images: Images) -> Split:
        """`run`, with the time of each part by events of the GPU."""


class Engine(Closing, Protocol):
    """A loaded model that all threads share; never changed after it is opened."""

    @property
    def manifest(self) -> Manifest:
        """What is loaded."""

    @property
    def device(self) -> Device:
        """Where it runs."""

    def session(self) -> Session:
        """A new session for one thread."""

    def close(self) -> None:
        """Free it and its sessions; once."""
