"""The arrays that `enqueue` is given: checked, then used where they are."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import Manifest
from segdeploy.cuda.arrays import DeviceArray, device_array, host_array, stream_handle
from segdeploy.errors import SegdeployError
from segdeploy.shapes import Shape, shape_text
from segdeploy.spec import Device, Output


class OnHost(NamedTuple):
    """Arrays of the host, over the caller's memory."""

    images: NDArray[np.uint8]
    result: NDArray[Any]


class OnGpu(NamedTuple):
    """Arrays of one GPU, and the stream on which they are used."""

    images: DeviceArray
    result: DeviceArray
    stream: int


def check_images(images: Any) -> None:
    """Refuse what is no batch of pixels.

    Raises:
        SegdeployError: it is no array of (N, H, W, 3) uint8.
    """
    if not isinstance(images, np.ndarray):
        raise SegdeployError(
            f"images: are a {type(images).__name__}; wanted a NumPy array",
            hint="session.enqueue takes arrays of other libraries",
        )
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise SegdeployError(
            f"images: are {images.dtype} {shape_text(images.shape)}; wanted uint8 (N, H, W, 3)",
            hint="pixels as decoded, RGB: the graph normalizes. image[None] makes a batch of one",
        )


def result_dtype(manifest: Manifest) -> np.dtype[Any]:
    """Of what a session returns."""
    return np.dtype(np.uint8 if manifest.output is Output.LABELS else np.float32)


def result_shape(manifest: Manifest, count: int, height: int, width: int) -> Shape:
    """Of what comes of so many images of a size."""
    if manifest.output is Output.LABELS:
        return count, height, width
    stride = manifest.method.stride
    sides = (math.ceil(height / stride), math.ceil(width / stride))
    return (count, len(manifest.classes), *sides)


def on_host(images: Any, result: Any, stream: Any, manifest: Manifest) -> OnHost:
    """The caller's arrays, for a session on the CPU.

    Raises:
        SegdeployError: they cannot be used in place, do not fit each other, or there is a stream.
    """
    if stream is not None:
        raise SegdeployError("a session on the CPU has no stream", hint="leave it out")
    source = host_array(images, np.uint8, what="images")
    target = host_array(result, result_dtype(manifest), what="result", writable=True)
    _check_shapes(source.shape, target.shape, manifest)
    return OnHost(source, target)


def on_gpu(images: Any, result: Any, stream: Any, manifest: Manifest, device: Device) -> OnGpu:
    """The caller's arrays, for a session on a GPU; no stream is CUDA's default one.

    Raises:
        SegdeployError: they cannot be used in place, or do not fit each other.
    """
    handle = stream_handle(0 if stream is None else stream)
    source, target = (
        device_array(
            array, dtype, what=what, device=device.number, stream=handle, writable=writable
        )
        for array, dtype, what, writable in (
            (images, np.uint8, "images", False),
            (result, result_dtype(manifest), "result", True),
        )
    )
    _check_shapes(source.shape, target.shape, manifest)
    return OnGpu(source, target, handle)


def _check_shapes(images: Shape, result: Shape, manifest: Manifest) -> None:
    if len(images) != 4 or images[3] != 3:
        raise SegdeployError(f"images: are {shape_text(images)}; wanted (N, H, W, 3)")
    wanted = result_shape(manifest, *images[:3])
    if result != wanted:
        raise SegdeployError(
            f"result: is {shape_text(result)}; these images give {shape_text(wanted)}"
        )
