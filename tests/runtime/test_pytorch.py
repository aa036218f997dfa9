"""PyTorch as the baseline: any size, labels or logits, and its manifest."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from segdeploy.errors import SegdeployError
from segdeploy.runtime.pytorch import PyTorchSession
from segdeploy.runtime.shared import SharedEngine
from segdeploy.spec import CPU, Device, Method, Output, Size

ODD = Size(67, 45)  # no multiple of any stride


@pytest.fixture
def session(narrow_source):
    source = narrow_source(Method.FCN)
    with PyTorchSession(source.spec, source.checkpoint) as opened:
        yield opened


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


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((1, 64, 64, 3), np.int8),
        np.zeros((1, 3, 64, 64), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        torch.zeros((1, 64, 64, 3), dtype=torch.uint8),
    ],
)
def test_what_is_no_batch_of_pixels_is_refused(session, images):
    with pytest.raises(SegdeployError, match="images: are"):
        session.run(images)


def test_threads_with_a_session_each_get_the_labels_of_a_direct_run(session, blocks):
    batches = [blocks(ODD, seed=seed) for seed in range(4)]
    expected = [session.run(images) for images in batches]

    engine = SharedEngine(session)
    with ThreadPoolExecutor(4) as pool:

        def work(k: int) -> list[np.ndarray]:
            with engine.session() as own:
                return [own.run(batches[k]) for _ in range(3)]

        found = list(pool.map(work, range(4)))

    assert engine.device == CPU
    for k in range(4):
        assert all(np.array_equal(labels, expected[k]) for labels in found[k])


def test_a_map_is_a_run_of_each_batch_in_order(session, blocks):
    batches = [blocks(ODD, seed=seed) for seed in range(3)]

    found = list(session.map(iter(batches)))

    assert len(found) == 3
    assert all(map(np.array_equal, found, map(session.run, batches)))


@pytest.mark.parametrize("as_given", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("method", [Method.FCN, Method.DEEPLABV3PLUS])
@pytest.mark.parametrize("output", Output)
def test_a_result_is_written_to_the_array_of_the_caller(
    narrow_source, blocks, as_given, method, output
):
    source, images = narrow_source(method), blocks(ODD, count=2)
    with PyTorchSession(source.spec, source.checkpoint, output=output) as opened:
        expected = opened.run(images)
        result = np.full_like(expected, 99)

        opened.enqueue(as_given(images), as_given(result))

    assert np.array_equal(result, expected)


def test_a_result_that_does_not_fit_is_refused_and_left_as_it_was(session, blocks):
    result = np.full((1, 67, 46), 99, np.uint8)

    with pytest.raises(SegdeployError, match="result: is 1x67x46; these images give 1x67x45"):
        session.enqueue(blocks(ODD), result)

    assert (result == 99).all()


def test_a_session_is_refused_after_it_is_closed(session, blocks):
    images, result = blocks(ODD), np.zeros((1, *ODD), np.uint8)
    session.close()
    session.close()

    with pytest.raises(SegdeployError, match="a session of narrow-fcn: is closed"):
        session.run(images)
    with pytest.raises(SegdeployError, match="a session of narrow-fcn: is closed"):
        session.enqueue(images, result)


def test_closing_a_session_leaves_those_that_share_its_network(session, blocks):
    other = session.share()

    other.close()

    assert session.run(blocks(ODD)).shape == (1, *ODD)


def test_a_session_is_refused_in_a_process_forked_after_it_was_opened(session, blocks, in_fork):
    images = blocks(ODD)

    refused = in_fork(lambda: session.run(images))

    assert str(refused).startswith("a session of narrow-fcn: was opened before this process was")


def test_memory_of_another_library_becomes_a_tensor_without_a_copy(session):
    memory = np.zeros(3, np.uint8)

    session._in_place(memory)[...] = 7

    assert memory.tolist() == [7, 7, 7]
