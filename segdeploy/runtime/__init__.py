"""Sessions: an artifact, loaded and ready to run."""

from types import TracebackType
from typing import Any, Protocol, Self, assert_never

from numpy.typing import NDArray

from segdeploy.artifacts import Artifact, EnginePlan, Graph, Manifest
from segdeploy.errors import SegdeployError, needs
from segdeploy.spec import Device, Images, Runtime


class Session(Protocol):
    """A loaded model: pixels in, labels or logits out, as its manifest says."""

    @property
    def manifest(self) -> Manifest:
        """What is loaded."""

    def run(self, images: Images) -> NDArray[Any]:
        """(N, H, W, 3) uint8 RGB -> labels (N, H, W) uint8 or logits (N, classes, h, w) float32."""

    def close(self) -> None:
        """Free it."""

    def __enter__(self) -> Self:
        """A session is a context manager."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""


def open_session(artifact: Artifact, *, device: Device = Device.CPU, threads: int = 0) -> Session:
    """Load `artifact` with the runtime that owns its kind; a plan is checked against its manifest.

    Args:
        artifact: a graph or an engine.
        device: where it runs.
        threads: of a CPU runtime; 0 leaves the number to it.
    """
    match artifact:
        case Graph():
            with needs("onnxruntime", extra="onnxruntime"):
                from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
            return OnnxRuntimeSession(
                artifact.path, artifact.manifest, device=device, threads=threads
            )
        case EnginePlan(manifest=Manifest(runtime=Runtime.ONNXRUNTIME)):
            if device is not Device.CPU:
                raise SegdeployError(
                    f"{artifact.path}: is optimized for the CPU, asked for {device}",
                    hint="run the .onnx graph with --device cuda",
                )
            with needs("onnxruntime", extra="onnxruntime"):
                from segdeploy.runtime.onnxruntime import open_plan
            return open_plan(artifact, threads=threads)
        case EnginePlan():
            from segdeploy.runtime.tensorrt import TensorRTSession

            return TensorRTSession(artifact.path, artifact.manifest)
        case _:
            assert_never(artifact)
