"""PyTorch as the baseline: any size, labels or logits, and its manifest."""

import numpy as np
import pytest
import torch

from segdeploy.errors import SegdeployError
from segdeploy.runtime.pytorch import PyTorchSession
from segdeploy.spec import Device, Method, Output, Size


def test_labels_are_the_best_class_at_the_size_of_the_image(narrow_source, blocks):
    source = narrow_source(Method.PSPNET)

    with PyTorchSession(source.spec, source.checkpoint) as session:
        labels = session.run(blocks(Size(67, 45), count=2))

    assert (labels.dtype, labels.shape) == (np.uint8, (2, 67, 45))
    assert labels.max() < 7


@pytest.mark.parametrize("method", [Method.FCN, Method.DEEPLABV3PLUS])
def test_logits_come_at_the_stride_of_the_head(narrow_source, blocks, method):
    source = narrow_source(method)

    with PyTorchSession(source.spec, source.checkpoint, output=Output.LOGITS) as session:
        logits = session.run(blocks(Size(64, 96)))

    assert logits.dtype == np.float32
    assert logits.shape == (1, 7, 64 // method.stride, 96 // method.stride)


def test_the_manifest_says_what_runs(narrow_source):
    source = narrow_source(Method.FCN)

    with PyTorchSession(source.spec, source.checkpoint, output=Output.LOGITS) as session:
        manifest = session.manifest

    assert (manifest.model, manifest.method, manifest.output) == (
        "narrow-fcn",
        Method.FCN,
        Output.LOGITS,
    )
    assert (manifest.size, manifest.batch) == (None, None)
    assert manifest.is_random
    assert dict(manifest.versions) == {"torch": torch.__version__}


def test_batches_are_independent_of_one_another(narrow_source, blocks):
    source, images = narrow_source(Method.FCN), blocks(Size(64, 64), count=3)

    with PyTorchSession(source.spec, source.checkpoint) as session:
        together = session.run(images)
        alone = np.concatenate([session.run(images[k : k + 1]) for k in range(3)])

    assert (together == alone).mean() > 0.999


def test_images_need_be_neither_writable_nor_in_one_piece(narrow_source, blocks):
    source = narrow_source(Method.FCN)
    images = blocks(Size(64, 128))[:, :, ::-2]
    images.flags.writeable = False

    with PyTorchSession(source.spec, source.checkpoint) as session:
        found, expected = session.run(images), session.run(images.copy())

    assert np.array_equal(found, expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_a_device_that_is_not_there_is_refused_and_not_replaced(narrow_source):
    source = narrow_source(Method.FCN)

    with pytest.raises(SegdeployError, match="sees no CUDA device") as caught:
        PyTorchSession(source.spec, source.checkpoint, device=Device("cuda"))

    assert "--device cpu" in caught.value.hint
