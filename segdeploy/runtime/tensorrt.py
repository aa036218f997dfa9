"""TensorRT and TensorRT-RTX: an engine plan, loaded and ready to run.

Written against the documented API of TensorRT 10 and later. It has not run on a GPU yet: only what
comes before the first device call, and the order of the calls, is tested.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import Manifest
from segdeploy.cuda import require_driver
from segdeploy.errors import SegdeployError, needs
from segdeploy.nvinfer import MODULES, TITLES, last_error, load_library, open_log
from segdeploy.spec import Images, Runtime

if TYPE_CHECKING:
    from segdeploy.runtime.device_memory import Buffer


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: np.dtype[Any]


class TensorRTSession:
    """A plan of either flavour on the current CUDA device, with one context and one stream."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Load the plan at `path`.

        Raises:
            SegdeployError: there is no driver, a package is missing, or the plan does not fit.
        """
        self.manifest = manifest
        runtime = _flavour(path, manifest)
        require_driver(f"running a {TITLES[runtime]} engine")  # before TensorRT's first object
        library = load_library(runtime)
        if manifest.runtime_version != library.__version__:
            raise SegdeployError(
                f"{path}: built with {TITLES[runtime]} {manifest.runtime_version}, this is "
                f"{library.__version__}; a plan loads only in the version that built it",
                hint="build the engine again",
            )
        with needs("cuda", extra="cuda"):
            from segdeploy.runtime import device_memory
        self._new_buffer = device_memory.Buffer
        self._log = open_log(library)
        self._engine = _load_engine(library, self._log, path)
        self._input, self._outputs = _tensors(library, self._engine, path)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise SegdeployError(
                f"{path}: no context could be made ({last_error(self._log.lines)})",
                hint="its activations may not fit on the GPU: build for a smaller batch or size",
            )
        self._stream = device_memory.Stream()
        self._shape: tuple[int, ...] = ()
        self._buffers: dict[str, Buffer] = {}

    def run(self, images: Images) -> NDArray[Any]:
        """(N, H, W, 3) uint8 RGB -> the engine's output: labels or logits."""
        if images.shape != self._shape:
            self._bind(images.shape)
        self._log.lines.clear()
        source = self._buffers[self._input.name]
        np.copyto(source.host, images, casting="no")
        source.upload(self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise SegdeployError(
                f"{self.manifest.model}: the engine did not run ({last_error(self._log.lines)})"
            )
        result = self._buffers[self._outputs[0].name]
        result.download(self._stream)
        self._stream.wait()
        return result.host.copy()

    def _bind(self, shape: tuple[int, ...]) -> None:
        """Size the buffers for this input shape and tell the context where they are."""
        self._free_buffers()
        self._log.lines.clear()
        if not self._context.set_input_shape(self._input.name, shape):
            raise SegdeployError(
                f"{self.manifest.model}: the engine refuses an image batch of shape {shape} "
                f"({last_error(self._log.lines)})",
                hint="build it with a shape profile that covers this shape",
            )
        for tensor in (self._input, *self._outputs):
            wanted = tuple(self._context.get_tensor_shape(tensor.name))
            buffer = self._buffers[tensor.name] = self._new_buffer(wanted, tensor.dtype)
            if not self._context.set_tensor_address(tensor.name, buffer.address):
                raise SegdeployError(
                    f"{self.manifest.model}: the engine takes no address for {tensor.name} "
                    f"({last_error(self._log.lines)})"
                )
        self._shape = shape

    def _free_buffers(self) -> None:
        self._shape = ()
        while self._buffers:
            self._buffers.popitem()[1].close()

    def close(self) -> None:
        """Free the buffers, the stream and the engine; once."""
        if self._engine is None:
            return
        self._free_buffers()
        self._stream.close()
        self._context = None  # before its engine
        self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _flavour(path: Path, manifest: Manifest) -> Runtime:
    if manifest.runtime not in MODULES:
        raise SegdeployError(
            f"{path}: is made for {manifest.runtime or 'no runtime'}; wanted an engine of "
            f"{' or '.join(MODULES)}",
            hint="segdeploy build-engine makes one",
        )
    return manifest.runtime


def _load_engine(library: Any, log: Any, path: Path) -> Any:
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise SegdeployError(f"{path}: cannot be read ({error.strerror})") from error
    engine = library.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:  # no exception: the reason is in the log
        raise SegdeployError(
            f"{path}: cannot be loaded ({last_error(log.lines) or 'TensorRT gave no reason'})",
            hint="build the engine again on this machine",
        )
    return engine


def _tensors(library: Any, engine: Any, path: Path) -> tuple[_Tensor, tuple[_Tensor, ...]]:
    """The one input and the outputs, in the engine's order."""
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        tensor = _Tensor(name, np.dtype(library.nptype(engine.get_tensor_dtype(name))))
        is_input = engine.get_tensor_mode(name) == library.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(tensor)
    if [tensor.dtype for tensor in inputs] != [np.uint8] or not outputs:
        found = ", ".join(f"{tensor.name} {tensor.dtype}" for tensor in inputs) or "none"
        raise SegdeployError(
            f"{path}: has the inputs {found} and {len(outputs)} outputs; wanted one uint8 input "
            "and an output",
            hint="segdeploy export makes graphs that take pixels",
        )
    return inputs[0], tuple(outputs)
