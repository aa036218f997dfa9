"""Arrays of the caller fit the session and each other, or are refused before anything runs."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segdeploy.artifacts import Manifest
from segdeploy.errors import SegdeployError
from segdeploy.runtime import in_place
from segdeploy.runtime.in_place import check_images, on_gpu, on_host, result_dtype
from segdeploy.spec import ClassSet, Device, Method, Output

LABELS = Manifest(model="demo", method=Method.FCN, classes=ClassSet.numbered(7))
LOGITS = replace(LABELS, output=Output.LOGITS)
IMAGES = np.zeros((2, 33, 50, 3), np.uint8)
RESULT = np.zeros((2, 33, 50), np.uint8)


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (IMAGES.astype(np.float32), "are float32 2x33x50x3; wanted uint8"),
        (IMAGES.astype(np.int8), "are int8"),
        (IMAGES[0], "are uint8 33x50x3; wanted uint8 .N, H, W, 3."),
        (IMAGES.transpose(0, 3, 1, 2), "are uint8 2x3x33x50"),
        (IMAGES.tolist(), "are a list; wanted a NumPy array"),
        (None, "are a NoneType"),
    ],
)
def test_what_is_no_batch_of_pixels_is_refused(images, complaint):
    with pytest.raises(SegdeployError, match=f"images: {complaint}") as caught:
        check_images(images)

    assert caught.value.hint


def test_a_batch_of_pixels_may_lie_in_pieces():
    check_images(IMAGES[:, ::-2])


def test_labels_are_bytes_and_logits_are_not():
    assert result_dtype(LABELS) == np.uint8
    assert result_dtype(LOGITS) == np.float32


def test_arrays_of_the_host_are_used_as_they_are():
    arrays = on_host(IMAGES, RESULT, None, LABELS)

    assert arrays.images is IMAGES
    assert arrays.result is RESULT


@pytest.mark.parametrize(
    ("method", "shape"),
    [(Method.FCN, (2, 7, 5, 7)), (Method.DEEPLABV3PLUS, (2, 7, 9, 13))],
)
def test_logits_come_at_the_stride_of_the_head_rounded_up(method, shape):
    manifest = replace(LOGITS, method=method)
    result = np.zeros(shape, np.float32)

    assert on_host(IMAGES, result, None, manifest).result is result


@pytest.mark.parametrize(
    ("manifest", "result", "complaint"),
    [
        (LABELS, RESULT[:1], "is 1x33x50; these images give 2x33x50"),
        (LABELS, RESULT.reshape(2, 50, 33), "is 2x50x33; these images give 2x33x50"),
        (LABELS, RESULT.astype(np.int64), "is int64 2x33x50; wanted uint8"),
        (LOGITS, RESULT, "is uint8 2x33x50; wanted float32"),
        (LOGITS, np.zeros((2, 7, 4, 6), np.float32), "is 2x7x4x6; these images give 2x7x5x7"),
        (LOGITS, np.zeros((2, 6, 5, 7), np.float32), "is 2x6x5x7; these images give 2x7x5x7"),
    ],
)
def test_a_result_that_does_not_fit_is_refused_with_what_would(manifest, result, complaint):
    with pytest.raises(SegdeployError, match=f"result: {complaint}"):
        on_host(IMAGES, result, None, manifest)


def test_a_result_must_be_writable():
    result = RESULT.copy()
    result.flags.writeable = False

    with pytest.raises(SegdeployError, match="result: is read-only"):
        on_host(IMAGES, result, None, LABELS)


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES.reshape(2, 50, 3, 33)])
def test_images_in_place_are_batches_of_pixels(images):
    with pytest.raises(SegdeployError, match=r"images: are .*; wanted \(N, H, W, 3\)"):
        on_host(images, RESULT, None, LABELS)


def test_a_session_on_the_cpu_has_no_stream():
    with pytest.raises(SegdeployError, match="on the CPU has no stream"):
        on_host(IMAGES, RESULT, 0, LABELS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is asked of `device_array`: dtype, what, device, stream, and whether it is written."""
    calls: list[tuple[Any, ...]] = []

    def device_array(array: Any, dtype: Any, *, what, device, stream, writable) -> Any:
        calls.append((np.dtype(dtype), what, device, stream, writable))
        return SimpleNamespace(shape=array.shape, pointer=id(array))

    monkeypatch.setattr(in_place, "device_array", device_array)
    return calls


@pytest.mark.parametrize(("stream", "handle"), [(None, 0), (5, 5), (SimpleNamespace(ptr=6), 6)])
def test_arrays_of_the_gpu_are_those_of_the_session_on_the_stream_of_the_caller(
    asked, stream, handle
):
    arrays = on_gpu(IMAGES, RESULT, stream, LABELS, Device("cuda:1"))

    assert arrays.stream == handle
    assert (arrays.images.pointer, arrays.result.pointer) == (id(IMAGES), id(RESULT))
    assert asked == [
        (np.uint8, "images", 1, handle, False),
        (np.uint8, "result", 1, handle, True),
    ]


def test_arrays_of_the_gpu_have_to_fit_each_other_too(asked):
    with pytest.raises(SegdeployError, match="result: is 1x33x50; these images give 2x33x50"):
        on_gpu(IMAGES, RESULT[:1], None, LABELS, Device("cuda"))
