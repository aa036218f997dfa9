"""PyTorch itself: the baseline that every artifact is compared with."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from segdeploy.artifacts import Manifest
from segdeploy.closing import Closing
from segdeploy.errors import SegdeployError
from segdeploy.nets.checkpoint import Checkpoint, build_network
from segdeploy.nets.segmentor import PixelsIn
from segdeploy.runtime.in_place import check_images, on_gpu, on_host
from segdeploy.runtime.lease import Lease
from segdeploy.spec import CPU, Device, Images, ModelSpec, Output


class PyTorchSession(Closing):
    """A checkpoint run eagerly in float32, as MMSegmentation runs it: no fusion, no fast math."""

    def __init__(
        self,
        spec: ModelSpec,
        checkpoint: Checkpoint,
        *,
        output: Output = Output.LABELS,
        device: Device = CPU,
        threads: int = 0,
    ) -> None:
        """Build the network; `threads` 0 leaves the number to PyTorch."""
        if device.is_cuda and device.number >= torch.cuda.device_count():
            raise SegdeployError(
                f"PyTorch sees no {device}"
                if torch.cuda.is_available()
                else "PyTorch sees no CUDA device",
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
        self.device = device
        self._device = torch.device(str(device))
        self._module: Any = PixelsIn(network, spec.normalization, output).eval().to(self._device)
        self._lease = Lease(f"a session of {spec.name}")

    def share(self) -> Self:
        """Another session over the same network, which any number of threads can run."""
        other = copy.copy(self)
        other._lease = Lease(f"a session of {self.manifest.model}")
        return other

    def run(self, images: Images) -> NDArray[Any]:
        """(N, H, W, 3) uint8 RGB -> labels or logits, back in host memory."""
        check_images(images)
        whole = np.require(images, requirements=["C", "W"])  # or torch refuses it, or warns
        with self._lease.use(), torch.inference_mode():
            output = self._module(torch.from_numpy(whole).to(self._device))
            result: NDArray[Any] = output.cpu().numpy()
        return result

    def map(self, batches: Iterable[Images]) -> Iterator[NDArray[Any]]:
        """`run` of each batch, in order."""
        return map(self.run, batches)

    def enqueue(self, images: Any, result: Any, stream: Any = None) -> None:
        """`run` on arrays of the caller, in place; on a GPU on the caller's stream."""
        if not self.device.is_cuda:
            source, target = on_host(images, result, stream, self.manifest)
            np.copyto(target, self.run(source))
            return
        with self._lease.use(), torch.inference_mode(), torch.cuda.device(self._device):
            placed = on_gpu(images, result, stream, self.manifest, self.device)
            used: Any = torch.cuda.ExternalStream(placed.stream)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(used):
                read, written = self._in_place(images), self._in_place(result)
                written.copy_(self._module(read))
            read.record_stream(used)  # it stays allocated until the stream has passed
            written.record_stream(used)

    def _in_place(self, array: Any) -> torch.Tensor:
        """The same memory as a tensor: `as_tensor` would copy what exports DLPack alone."""
        if hasattr(array, "__dlpack__") and not isinstance(array, torch.Tensor):
            return from_dlpack(array)
        return torch.as_tensor(array, device=self._device)

    def close(self) -> None:
        """Let go of the network; once."""
        self._lease.end(self._free)

    def _free(self) -> None:
        self._module = None
