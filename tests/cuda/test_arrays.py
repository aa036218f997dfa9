"""Arrays and streams of other libraries are used where they are, or refused; never copied."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from segdeploy.cuda import driver_problem
from segdeploy.cuda.arrays import device_array, host_array, is_contiguous, stream_handle
from segdeploy.errors import SegdeployError

pytest.importorskip("cuda.core", exc_type=ImportError)

without_driver = pytest.mark.skipif(driver_problem() is None, reason="there is a GPU")
SHAPE = (1, 4, 5, 3)
HOST, GPU, MANAGED = 1, 2, 13  # DLDeviceType in dlpack.h


class OnCuda:
    """What an array of a GPU shows of itself: by `__cuda_array_interface__` alone."""

    def __init__(self) -> None:
        self.__cuda_array_interface__ = {
            "shape": SHAPE, "typestr": "|u1", "data": (4096, False), "strides": None, "version": 3
        }  # fmt: skip


class Exported:
    """What an array shows by DLPack: where it is."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __dlpack__(self, **options: Any) -> None:
        pytest.fail("no capsule is asked for before it is known where it lies")

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What cuda-python sees of any array; `asked` is what it was asked for."""
    seen = SimpleNamespace(
        ptr=4096, shape=SHAPE, strides=None, dtype=np.dtype(np.uint8), device_id=0, readonly=False,
        asked=[],
    )  # fmt: skip

    def from_any_interface(array: Any, stream_ptr: int) -> SimpleNamespace:
        seen.asked.append((array, stream_ptr))
        return seen

    fake = SimpleNamespace(from_any_interface=from_any_interface)
    monkeypatch.setattr("cuda.core.utils.StridedMemoryView", fake)
    return seen


def on_gpu(array: Any, dtype: Any = np.uint8, **options: Any) -> Any:
    return device_array(array, dtype, what="images", **{"device": 0, "stream": 7, **options})


@pytest.mark.parametrize(
    "stream",
    [
        5,
        SimpleNamespace(__cuda_stream__=lambda: (0, 5)),  # cuda.core
        SimpleNamespace(__cuda_stream__=(0, 5)),  # as it was a property
        SimpleNamespace(cuda_stream=5),  # PyTorch
        SimpleNamespace(ptr=5),  # CuPy
        SimpleNamespace(handle=5),  # pycuda
    ],
    ids=["integer", "protocol", "property", "torch", "cupy", "pycuda"],
)
def test_a_stream_of_any_library_is_its_handle(stream):
    assert stream_handle(stream) == 5


@pytest.mark.parametrize("stream", [None, "5", 5.0, SimpleNamespace(ptr="5"), object()])
def test_what_is_no_stream_is_refused(stream):
    with pytest.raises(SegdeployError, match="wanted a CUDA stream") as caught:
        stream_handle(stream)

    assert "current_stream" in caught.value.hint


@pytest.mark.parametrize(
    ("shape", "strides", "is_whole"),
    [
        ((2, 3, 4), None, True),
        ((2, 3, 4), (12, 4, 1), True),
        ((2, 3, 4), (1, 2, 6), False),
        ((2, 3, 4), (24, 8, 2), False),
        ((1, 3, 4), (999, 4, 1), True),  # an axis of one is never walked along
        ((2, 1, 4), (4, 999, 1), True),
        ((), (), True),
    ],
)
def test_contiguous_means_c_order_in_elements(shape, strides, is_whole):
    assert is_contiguous(shape, strides) is is_whole


@pytest.mark.parametrize("make", [np.zeros, lambda shape, dtype: torch.zeros(shape).byte()])
def test_what_is_written_to_a_host_array_is_in_the_callers_own(make):
    given = make(SHAPE, np.uint8)

    found = host_array(given, np.uint8, what="result", writable=True)
    found[...] = 7

    assert (np.asarray(given) == 7).all()


class OldTensor:
    """A tensor of a PyTorch whose DLPack is older than 1.0, which knows no read-only flag."""

    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        self.tensor = torch.zeros(4, dtype=torch.uint8)
        self.make = make

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return HOST, 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.make(self.tensor)


def test_an_array_that_dlpack_calls_read_only_is_written_to_if_it_is_not():
    given = OldTensor(lambda tensor: tensor.numpy())

    host_array(given, np.uint8, what="result", writable=True)[...] = 7

    assert given.tensor.tolist() == [7] * 4


def test_a_copy_is_never_written_to_in_the_place_of_an_array():
    given = OldTensor(lambda tensor: tensor.numpy().copy())

    with pytest.raises(SegdeployError, match="result: is read-only"):
        host_array(given, np.uint8, what="result", writable=True)


def test_whatever_shows_its_memory_is_an_array_of_the_host():
    given = bytearray(b"abc")

    host_array(given, np.uint8, what="result", writable=True)[0] = ord("x")

    assert given == b"xbc"


def test_a_read_only_array_is_read_and_not_written_to():
    given = np.zeros(SHAPE, np.uint8)
    given.flags.writeable = False

    assert host_array(given, np.uint8, what="images") is given
    with pytest.raises(SegdeployError, match="result: is read-only"):
        host_array(given, np.uint8, what="result", writable=True)


@pytest.mark.parametrize("make", [np.zeros, lambda shape: torch.zeros(shape, dtype=torch.float64)])
def test_a_host_array_of_another_dtype_is_refused(make):
    with pytest.raises(SegdeployError, match=r"images: is float64 1x4x5x3; wanted uint8"):
        host_array(make(SHAPE), np.uint8, what="images")


@pytest.mark.parametrize(
    "array",
    [np.zeros(SHAPE, np.uint8).T, torch.zeros(SHAPE, dtype=torch.uint8)[..., :2]],
    ids=["numpy", "torch"],
)
def test_a_host_array_in_another_order_or_in_pieces_is_refused(array):
    with pytest.raises(SegdeployError, match="is not contiguous in C order") as caught:
        host_array(array, np.uint8, what="images")

    assert ".contiguous()" in caught.value.hint


@pytest.mark.parametrize(
    "array",
    [[1, 2], 3, None, OnCuda(), torch.zeros(2, requires_grad=True)],
    ids=["list", "number", "none", "cuda", "grad"],
)
def test_what_is_no_array_of_the_host_is_refused_by_its_type(array):
    with pytest.raises(SegdeployError, match=f"images: is a {type(array).__name__}, which is no"):
        host_array(array, np.uint8, what="images")


@pytest.mark.parametrize("array", [OnCuda(), Exported(GPU), Exported(MANAGED)])
def test_an_array_of_the_gpu_is_a_pointer_that_keeps_it_alive(view, array):
    found = on_gpu(array)

    assert (found.pointer, found.shape) == (4096, SHAPE)
    assert array in found.owner
    assert view.asked == [(array, 7)]


def test_an_array_on_another_gpu_is_refused(view):
    view.device_id = 1

    with pytest.raises(SegdeployError, match=r"images: is on cuda:1, the session is on cuda:0"):
        on_gpu(OnCuda())


def test_a_device_array_of_another_dtype_is_refused(view):
    view.dtype = np.dtype(np.float16)

    with pytest.raises(SegdeployError, match=r"images: is float16 1x4x5x3; wanted uint8"):
        on_gpu(OnCuda())


@pytest.mark.parametrize(("strides", "is_whole"), [((60, 15, 3, 1), True), ((60, 1, 4, 20), False)])
def test_a_device_array_lies_in_c_order(view, strides, is_whole):
    view.strides = strides

    if is_whole:
        assert on_gpu(OnCuda()).shape == SHAPE
    else:
        with pytest.raises(SegdeployError, match="is not contiguous in C order"):
            on_gpu(OnCuda())


def test_a_read_only_device_array_is_read_and_not_written_to(view):
    view.readonly = True

    assert on_gpu(OnCuda()).pointer == 4096
    with pytest.raises(SegdeployError, match="images: is read-only"):
        on_gpu(OnCuda(), writable=True)


@pytest.mark.parametrize("array", [np.zeros(SHAPE, np.uint8), torch.zeros(SHAPE), Exported(HOST)])
def test_an_array_of_the_host_is_refused_on_a_gpu(view, array):
    with pytest.raises(SegdeployError, match=r"images: is not on a GPU.*cuda:2") as caught:
        on_gpu(array, device=2)

    assert "session.run" in caught.value.hint
    assert not view.asked


@pytest.mark.parametrize("array", [[1, 2], None, 4096])
def test_what_is_no_array_is_refused_on_a_gpu(view, array):
    with pytest.raises(SegdeployError, match=f"images: is a {type(array).__name__}; wanted an arr"):
        on_gpu(array)


@pytest.mark.parametrize("error", [BufferError, AssertionError, NotImplementedError, Exception])
def test_what_the_library_of_an_array_refuses_is_said_in_its_words(view, monkeypatch, error):
    def refuse(array: Any, stream_ptr: int) -> None:
        raise error("cannot export what requires gradient")

    monkeypatch.setattr(
        "cuda.core.utils.StridedMemoryView", SimpleNamespace(from_any_interface=refuse)
    )

    with pytest.raises(SegdeployError, match=r"images: cannot be used in place \(cannot export"):
        on_gpu(OnCuda())


def test_a_dtype_that_numpy_does_not_have_is_said_in_words(monkeypatch):
    class View:
        @property
        def dtype(self) -> None:
            raise NotImplementedError("Support for bfloat16 requires ml_dtypes")

    fake = SimpleNamespace(from_any_interface=lambda array, stream_ptr: View())
    monkeypatch.setattr("cuda.core.utils.StridedMemoryView", fake)

    with pytest.raises(SegdeployError, match=r"cannot be used in place \(Support for bfloat16"):
        on_gpu(OnCuda())


@without_driver
def test_an_array_of_the_gpu_without_a_driver_is_an_error_and_no_crash():
    with pytest.raises(SegdeployError, match="images: cannot be used in place"):
        on_gpu(OnCuda())


@pytest.mark.gpu
def test_a_tensor_of_the_gpu_is_its_own_memory():
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    tensor = torch.zeros(SHAPE, dtype=torch.uint8, device="cuda:0")

    found = on_gpu(tensor, stream=torch.cuda.current_stream().cuda_stream, writable=True)

    assert (found.pointer, found.shape) == (tensor.data_ptr(), SHAPE)
