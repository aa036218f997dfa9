"""PyTorch itself: the baseline that every artifact is compared with."""

from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from segdeploy.artifacts import Manifest
from segdeploy.errors import SegdeployError
from segdeploy.nets.checkpoint import Checkpoint, build_network
from segdeploy.nets.segmentor import PixelsIn
from segdeploy.spec import Device, Images, ModelSpec, Output


class PyTorchSession:
    """A checkpoint run eagerly in float32, as MMSegmentation runs it: no fusion, no fast math."""

    def __init__(
        self,
        spec: ModelSpec,
        checkpoint: Checkpoint,
        *,
        output: Output = Output.LABELS,
        device: Device = Device.CPU,
        threads: int = 0,
    ) -> None:
        """Build the network; `threads` 0 leaves the number to PyTorch."""
        if device is Device.CUDA and not torch.cuda.is_available():
            raise SegdeployError(
                "PyTorch sees no CUDA device",
                hint="segdeploy doctor says why; --device cpu runs here",
            )
        if threads:
            torch.set_num_threads(threads)
        network, classes = build_network(spec, checkpoint)
        self.manifest = Manifest(
            model=spec.name,
            method=spec.method,
            classes=classes,
            output=output,
            size=None,
            batch=None,
            dataset=spec.dataset,
            normalization=spec.normalization,
            checkpoint=checkpoint.name,
            checkpoint_sha256=checkpoint.sha256,
            versions=(("torch", torch.__version__),),
        )
        self._device = torch.device(str(device))
        self._module: Any = PixelsIn(network, spec.normalization, output).eval().to(self._device)

    def run(self, images: Images) -> NDArray[Any]:
        """(N, H, W, 3) uint8 RGB -> labels or logits, back in host memory."""
        whole = np.require(images, requirements=["C", "W"])  # or torch refuses it, or warns
        with torch.inference_mode():
            output = self._module(torch.from_numpy(whole).to(self._device))
        result: NDArray[Any] = output.cpu().numpy()
        return result

    def close(self) -> None:
        """Free the network."""
        self._module = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
