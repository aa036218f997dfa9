"""Crops and scales, against MMSegmentation's arithmetic written out in torch."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from segdeploy.artifacts import Manifest
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.modes import (
    RATIOS,
    WHOLE,
    Mode,
    check_mode,
    crops,
    mode_input,
    segment_averaged,
    view_sizes,
)
from segdeploy.pipeline.segment import segment
from segdeploy.runtime import open_session
from segdeploy.spec import ClassSet, Method, Output, Size

torch = pytest.importorskip("torch")

LOGITS = Manifest("own", Method.FCN, ClassSet.numbered(7), output=Output.LOGITS, size=None)
TTA = Mode(tta=True)
# Where a label differs from torch's, its two best scores are closer than this. Measured: of 291978
# labels below, a tenth of them of exported graphs, none differs.
SCORE_MARGIN = 1e-4
PROBABILITY_MARGIN = 1e-5


def slide(crop: str, stride: str, *, tta: bool = False) -> Mode:
    return Mode(crop=Size.parse(crop), stride=Size.parse(stride), tta=tta)


@pytest.fixture(scope="module")
def sessions(narrow_source):
    """Narrow models in PyTorch, by method, returning logits of any size."""
    from segdeploy.runtime.pytorch import PyTorchSession

    def open_one(method: Method) -> PyTorchSession:
        source = narrow_source(method)
        return PyTorchSession(source.spec, source.checkpoint, output=Output.LOGITS, threads=1)

    return {method: open_one(method) for method in (Method.FCN, Method.DEEPLABV3PLUS)}


def torch_resize(scores, size):
    return torch.nn.functional.interpolate(
        scores, size=tuple(size), mode="bilinear", align_corners=False
    )


def torch_scores(session, image, mode):
    """MMSegmentation's whole_inference and slide_inference: (1, C, H, W) at the image's size."""

    def encode_decode(part):
        logits = torch.from_numpy(session.run(np.ascontiguousarray(part)[None]))
        return torch_resize(logits, part.shape[:2])

    if mode.crop is None:
        return encode_decode(image)
    h_img, w_img = image.shape[:2]
    (h_crop, w_crop), (h_stride, w_stride) = mode.crop, mode.stride
    total, count = torch.zeros(1, 7, h_img, w_img), torch.zeros(1, 1, h_img, w_img)
    for i in range(max(h_img - h_crop + h_stride - 1, 0) // h_stride + 1):
        for j in range(max(w_img - w_crop + w_stride - 1, 0) // w_stride + 1):
            y2, x2 = min(i * h_stride + h_crop, h_img), min(j * w_stride + w_crop, w_img)
            y1, x1 = max(y2 - h_crop, 0), max(x2 - w_crop, 0)
            part = encode_decode(image[y1:y2, x1:x2])
            total += torch.nn.functional.pad(part, (x1, w_img - x2, y1, h_img - y2))
            count[:, :, y1:y2, x1:x2] += 1
    return total / count


def torch_tta(session, image, mode):
    """MMSegmentation's SegTTAModel: (C, H, W) mean probabilities."""
    h, w = image.shape[:2]
    total = torch.zeros(7, h, w)
    for ratio in RATIOS:
        long, short = sorted((int(w * ratio + 0.5), int(h * ratio + 0.5)), reverse=True)
        factor = min(long / max(h, w), short / min(h, w))
        size = int(w * factor + 0.5), int(h * factor + 0.5)
        view = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        for flip in (False, True):
            scores = torch_scores(session, np.flip(view, 1) if flip else view, mode)
            scores = scores.flip(dims=(3,)) if flip else scores
            total += torch_resize(scores, (h, w))[0].softmax(dim=0)
    return total / (2 * len(RATIOS))


def assert_labels(labels, scores, margin):
    """Equal wherever the two best scores are further apart than rounding moves them."""
    best, classes = scores.topk(2, dim=0)
    sure = (best[0] - best[1]).numpy() > margin
    expected = classes[0].numpy()
    assert labels.dtype == np.uint8
    assert np.array_equal(labels[sure], expected[sure])
    assert (labels == expected).mean() >= 0.9999
    assert len(np.unique(labels)) > 2


@pytest.mark.parametrize("method", [Method.FCN, Method.DEEPLABV3PLUS])
@pytest.mark.parametrize(
    ("size", "mode"),
    [
        (Size(96, 160), slide("64x64", "42x42")),
        (Size(121, 197), slide("64x65", "31x57")),
        (Size(121, 197), slide("64x64", "64x64")),
        (Size(50, 197), slide("64x96", "43x64")),
        (Size(41, 55), slide("64x64", "42x42")),
        (Size(65, 64), slide("64x64", "1x64")),
    ],
    ids=str,
)
def test_the_scores_of_overlapping_crops_are_averaged(sessions, blocks, method, size, mode):
    image = blocks(size)[0]

    labels = segment(sessions[method], image, mode)

    expected = torch_scores(sessions[method], image, mode)[0]
    assert_labels(labels, expected, SCORE_MARGIN)


def test_averaged_scores_are_resized_to_the_original_size(sessions, blocks):
    mode, session, original = slide("64x64", "43x43"), sessions[Method.FCN], Size(61, 93)
    image = blocks(original)[0]
    fitted = mode_input(image, (256, 96), mode)

    labels = segment_averaged(session, fitted, original, mode)

    assert fitted.shape == (96, 146, 3)
    expected = torch_resize(torch_scores(session, fitted, mode), original)[0]
    assert_labels(labels, expected, SCORE_MARGIN)


@pytest.mark.parametrize("method", [Method.FCN, Method.DEEPLABV3PLUS])
@pytest.mark.parametrize("size", [Size(64, 96), Size(101, 75), Size(107, 142)], ids=str)
def test_tta_is_the_mean_of_six_scales_and_their_mirror_images(sessions, blocks, method, size):
    image = blocks(size)[0]

    labels = segment(sessions[method], image, TTA)

    assert_labels(labels, torch_tta(sessions[method], image, TTA), PROBABILITY_MARGIN)


def test_tta_passes_each_scale_in_crops_if_both_are_asked_for(sessions, blocks):
    mode, image = slide("64x64", "43x50", tta=True), blocks(Size(71, 99))[0]

    labels = segment(sessions[Method.FCN], image, mode)

    assert_labels(labels, torch_tta(sessions[Method.FCN], image, mode), PROBABILITY_MARGIN)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [slide("64x64", "42x43"), TTA], ids=str)
def test_an_exported_graph_gives_the_labels_of_pytorch(exported, sessions, blocks, mode):
    image = blocks(Size(121, 211))[0]
    reference = sessions[Method.FCN]

    with open_session(exported(Method.FCN, size=None, output=Output.LOGITS)) as session:
        labels = segment(session, image, mode)

    if mode.tta:
        assert_labels(labels, torch_tta(reference, image, mode), PROBABILITY_MARGIN)
    else:
        assert_labels(labels, torch_scores(reference, image, mode)[0], SCORE_MARGIN)


@pytest.mark.slow
def test_a_graph_of_one_size_takes_crops_of_that_size(exported, sessions, blocks):
    mode, image = slide("64x96", "40x70"), blocks(Size(90, 131))[0]

    with open_session(exported(Method.FCN, output=Output.LOGITS, batch=2)) as session:
        labels = segment(session, image, mode)

        with pytest.raises(SegdeployError, match="60x131 is smaller than the crops of 64x96"):
            segment(session, image[:60], mode)

    assert_labels(labels, torch_scores(sessions[Method.FCN], image, mode)[0], SCORE_MARGIN)


# As mmcv 2.1.0 rounds: once to the scale, and once more to keep the ratio.
@pytest.mark.parametrize(
    ("size", "ratio", "expected"),
    [
        (Size(1024, 2048), 1.75, Size(1792, 3584)),
        (Size(241, 497), 0.5, Size(121, 249)),
        (Size(163, 792), 0.75, Size(122, 593)),
        (Size(107, 710), 0.75, Size(80, 531)),
        (Size(530, 179), 1.75, Size(927, 313)),
        (Size(641, 22), 1.25, Size(801, 27)),
    ],
    ids=str,
)
def test_scales_are_rounded_as_mmcv_does(size, ratio, expected):
    assert view_sizes(size)[RATIOS.index(ratio)] == expected


def test_tta_scales_the_original_and_not_the_test_size(blocks):
    image = blocks(Size(50, 80))[0]

    assert mode_input(image, (2048, 512), TTA) is image
    assert mode_input(image, (2048, 512), WHOLE).shape == (512, 819, 3)


def test_the_last_crops_are_moved_back_inside():
    found = list(crops(Size(241, 300), Size(128, 256), Size(85, 200)))

    assert [(y.start, y.stop) for y, _ in found[::2]] == [(0, 128), (85, 213), (113, 241)]
    assert [(x.start, x.stop) for _, x in found[:2]] == [(0, 256), (44, 300)]


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (WHOLE, "whole"),
        (TTA, "ms+flip"),
        (slide("512x1024", "341x683"), "slide 512x1024 by 341x683"),
        (slide("64x64", "43x43", tta=True), "ms+flip of slide 64x64 by 43x43"),
    ],
)
def test_a_mode_is_named_so_that_no_two_look_alike(mode, text):
    assert str(mode) == text


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"crop": Size(64, 64)}, "go together"),
        ({"stride": Size(64, 64)}, "go together"),
        ({"crop": Size(64, 31), "stride": Size(10, 10)}, "crop 64x31; wanted at least 32 a side"),
        ({"crop": Size(64, 64), "stride": Size(64, 65)}, "stride 64x65 and crop 64x64"),
        ({"crop": Size(64, 64), "stride": Size(0, 64)}, "stride 0x64"),
    ],
)
def test_crops_that_leave_pixels_out_are_refused(fields, problem):
    with pytest.raises(SegdeployError, match=problem):
        Mode(**fields)


@pytest.mark.parametrize(
    ("changes", "mode", "problem", "hint"),
    [
        ({"output": Output.LABELS}, TTA, "returns labels; ms.flip averages", "--output logits"),
        ({"output": Output.LABELS}, slide("64x64", "9x9"), "returns labels", "--output logits"),
        ({"size": Size(64, 96)}, TTA, "takes 64x96 only", "--dynamic"),
        ({"size": Size(64, 96)}, slide("96x64", "9x9"), "crops of 96x64", "--crop 64x96"),
        ({"size": Size(64, 96)}, slide("96x64", "9x9", tta=True), "crops of 96x64", "--dynamic"),
    ],
)
def test_an_artifact_that_cannot_be_run_so_is_refused(changes, mode, problem, hint):
    manifest = replace(LOGITS, **changes)

    with pytest.raises(SegdeployError, match=problem) as caught:
        check_mode(manifest, mode)

    assert hint in caught.value.hint
    check_mode(manifest, WHOLE)


def test_a_labels_session_is_never_run_whole_instead(blocks):
    class Labels:
        manifest = replace(LOGITS, output=Output.LABELS)

    with pytest.raises(SegdeployError, match="returns labels"):
        segment(Labels(), blocks(Size(64, 64))[0], TTA)


@pytest.mark.parametrize("mode", [TTA, slide("64x64", "9x9")], ids=str)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_scores_that_overflowed_are_refused(blocks, mode, value):
    class Overflowing:
        manifest = LOGITS

        def run(self, images):
            height, width = images.shape[1] // 8, images.shape[2] // 8
            logits = np.zeros((1, 7, height, width), np.float32)
            logits[0, 3, 1, 1] = value
            return logits

    with pytest.raises(SegdeployError, match="not finite"):
        segment(Overflowing(), blocks(Size(64, 64))[0], mode)
