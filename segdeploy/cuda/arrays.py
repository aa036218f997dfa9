"""Arrays and streams of other libraries, taken as they are: pointers, never copies.

Device arrays come by `__cuda_array_interface__` or DLPack (PyTorch, CuPy, pycuda, JAX, ...), arrays
on the host from NumPy or by DLPack.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segdeploy.errors import SegdeployError, needs
from segdeploy.shapes import shape_text

STREAM_ATTRIBUTES = ("cuda_stream", "ptr", "handle")  # PyTorch's, CuPy's, pycuda's
DLPACK_CUDA = (2, 13)  # kDLCUDA and kDLCUDAManaged in dlpack.h


@dataclass(frozen=True)
class DeviceArray:
    """Memory of a GPU that somebody else owns; `owner` must live as long as work uses it."""

    pointer: int
    shape: tuple[int, ...]
    owner: Any


def stream_handle(stream: Any) -> int:
    """The CUstream of an integer, or of a stream of PyTorch, CuPy, pycuda or cuda.core."""
    if isinstance(stream, int):
        return stream
    if hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__  # a method by now, once a property
        return int((protocol() if callable(protocol) else protocol)[1])
    for name in STREAM_ATTRIBUTES:
        if isinstance(handle := getattr(stream, name, None), int):
            return handle
    raise SegdeployError(
        f"a stream is a {type(stream).__name__}; wanted a CUDA stream or its handle as an integer",
        hint="torch.cuda.current_stream(), or cupy.cuda.get_current_stream()",
    )


def device_array(
    array: Any, dtype: DTypeLike, *, what: str, device: int, stream: int, writable: bool = False
) -> DeviceArray:
    """The memory of an array on GPU `device`, in C order and of this dtype.

    Args:
        array: whatever exports `__cuda_array_interface__` or DLPack.
        dtype: that it must have.
        what: begins an error.
        device: index of the GPU that it must be on.
        stream: on which it will be used; its library orders its own work before that.
        writable: whether it will be written to.

    Raises:
        SegdeployError: it exports neither, lies elsewhere, is of another dtype or layout, or must
            not be written.
    """
    _refuse_host(array, what, device)
    with needs("cuda", extra="cuda"):
        from cuda.core.utils import StridedMemoryView
    try:
        view = StridedMemoryView.from_any_interface(array, stream_ptr=stream)
        found = np.dtype(view.dtype)  # read off the array only now
    except Exception as error:  # of the array's library, the driver or cuda-python
        raise SegdeployError(f"{what}: cannot be used in place ({error})") from error
    _check(
        what, found, dtype, view.shape,
        is_contiguous=is_contiguous(view.shape, view.strides),
        is_writable=not (writable and view.readonly),
    )  # fmt: skip
    if view.device_id != device:
        raise SegdeployError(
            f"{what}: is on cuda:{view.device_id}, the session is on cuda:{device}",
            hint="copy it there, or open the engine on that device",
        )
    return DeviceArray(int(view.ptr), tuple(view.shape), (array, view))


def _refuse_host(array: Any, what: str, device: int) -> None:
    """What exports DLPack may lie anywhere; what exports nothing is no array."""
    if not hasattr(array, "__dlpack_device__"):
        if hasattr(array, "__cuda_array_interface__"):
            return
        raise SegdeployError(
            f"{what}: is a {type(array).__name__}; wanted an array on cuda:{device} that exports "
            "__cuda_array_interface__ or DLPack",
            hint="session.run takes NumPy arrays",
        )
    kind, _ = array.__dlpack_device__()
    if int(kind) not in DLPACK_CUDA:
        raise SegdeployError(
            f"{what}: is not on a GPU, the session is on cuda:{device}",
            hint="session.run takes arrays of the host, or copy it there first",
        )


def host_array(array: Any, dtype: DTypeLike, *, what: str, writable: bool = False) -> NDArray[Any]:
    """The same memory as a NumPy array, in C order and of this dtype.

    Raises:
        SegdeployError: it is not on the host, of another dtype or layout, or must not be written.
    """
    try:
        if isinstance(array, np.ndarray):
            found = array
        elif hasattr(array, "__dlpack__"):
            found = _writable_if_it_is(np.from_dlpack(array), array)
        else:
            found = np.asarray(memoryview(array))
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise SegdeployError(
            f"{what}: is a {type(array).__name__}, which is no array of the host ({error})"
        ) from error
    _check(
        what, found.dtype, dtype, found.shape,
        is_contiguous=found.flags.c_contiguous,
        is_writable=not writable or found.flags.writeable,
    )  # fmt: skip
    return found


def _writable_if_it_is(view: NDArray[Any], array: Any) -> NDArray[Any]:
    """The same memory; DLPack before 1.0 cannot say that it may be written, an array may."""
    if view.flags.writeable or not hasattr(array, "__array__"):
        return view
    other = np.asarray(array)
    is_same = (other.ctypes.data, other.strides) == (view.ctypes.data, view.strides)
    return other if is_same else view  # never a copy, which would be written in vain


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
    """Whether an array with these strides, counted in elements, is in C order; None: it is."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _check(
    what: str,
    found: np.dtype[Any],
    wanted: DTypeLike,
    shape: tuple[int, ...],
    *,
    is_contiguous: bool,
    is_writable: bool,
) -> None:
    if found != np.dtype(wanted):
        raise SegdeployError(f"{what}: is {found} {shape_text(shape)}; wanted {np.dtype(wanted)}")
    if not is_contiguous:
        raise SegdeployError(
            f"{what}: {shape_text(shape)} is not contiguous in C order",
            hint="copy it: .contiguous() of PyTorch, ascontiguousarray of NumPy or CuPy",
        )
    if not is_writable:
        raise SegdeployError(f"{what}: is read-only; wanted an array to write to")
