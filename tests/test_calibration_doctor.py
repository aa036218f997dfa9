"""What the doctor says of images, classes, pixels and colours, on numbers made for the purpose."""

import numpy as np
import pytest

from segdeploy.artifacts import LayerMoments
from segdeploy.calibration_doctor import (
    ColorResponse,
    Moments,
    PixelFit,
    check_classes,
    check_color_order,
    check_images,
    check_pixels,
    distance,
    fit_pixels,
    margin_of,
)
from segdeploy.complaints import Complaint, Fault, Severity, raise_refusals
from segdeploy.errors import SegdeployError
from segdeploy.spec import Normalization, Size

USUAL = Normalization()
COLOR = np.array([110.0, 105, 100])  # of street scenes: nearly grey
SOUND = PixelFit(1.0, (3.0, -4.0, 5.0))
SURE = [(5.0 + k % 3 / 10, 4.7) for k in range(16)]  # margins of images with the right colours


@pytest.fixture
def scenes(blocks):
    images = blocks(Size(40, 60), count=9)
    return [(f"frame-{k}", image) for k, image in enumerate(images)]


def only(complaints) -> Complaint:
    (found,) = complaints
    return found


def test_photographs_are_fine(scenes):
    assert check_images(scenes) == ()


def test_few_images_are_a_warning_that_tells_how_many(scenes):
    found = only(check_images(scenes[:3]))

    assert (found.severity, found.subject) == (Severity.WARN, Fault.COUNT)
    assert found.sentence.startswith("3 images")


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (10, 200, 90)])
def test_one_image_of_one_colour_is_refused_by_name(scenes, color):
    scenes[4] = ("blank", np.full((40, 60, 3), color, np.uint8))

    found = only(check_images(scenes))

    assert (found.severity, found.subject) == (Severity.REFUSE, Fault.CONSTANT)
    assert "1 image is of one colour: blank" in found.sentence


def test_noise_is_refused_and_the_names_are_cut_short(scenes):
    dice = np.random.default_rng(0)
    noise = [(f"noise-{k}", dice.integers(0, 256, (40, 60, 3), np.uint8)) for k in range(5)]

    found = only(check_images([*scenes, *noise]))

    assert (found.severity, found.subject) == (Severity.REFUSE, Fault.NOISE)
    assert found.sentence.startswith("5 images are noise")
    assert found.sentence.endswith("noise-0, noise-1, noise-2 ...")


def test_an_image_that_was_there_before_is_a_warning(scenes):
    scenes.append(("copy", scenes[2][1].copy()))

    found = only(check_images(scenes))

    assert (found.severity, found.subject) == (Severity.WARN, Fault.DUPLICATE)
    assert "copy as frame-2" in found.sentence


def test_classes_that_all_appear_are_fine():
    maps = [np.array([[0, 1]], np.uint8), np.array([[2, 255]], np.uint8)]

    assert check_classes(("a", "b", "c"), maps, predicted=False) == ()


def test_a_class_that_never_appears_is_named():
    maps = [np.array([[0, 255], [0, 2]], np.uint8)] * 4

    found = only(check_classes(("road", "person", "sky"), maps, predicted=False))

    assert (found.severity, found.subject) == (Severity.WARN, Fault.CLASS)
    assert found.sentence == "one class appears in none of 4 label maps: person"


def test_a_speck_counts_in_label_maps_and_not_in_predictions():
    speck = np.zeros((100, 100), np.uint8)
    speck[0, 0] = 1

    assert check_classes(("a", "b"), [speck], predicted=False) == ()
    assert "says the network" in only(check_classes(("a", "b"), [speck], predicted=True)).sentence


def test_many_missing_classes_are_one_complaint():
    found = only(
        check_classes([f"c{k}" for k in range(150)], [np.zeros((2, 2), np.uint8)], predicted=False)
    )

    assert found.sentence.startswith("149 classes appear in none of 1 label maps: c1, c2,")
    assert found.sentence.endswith("c12 ...")


def test_reading_stops_when_every_class_was_seen():
    def maps():
        yield np.array([[0, 1]], np.uint8)
        pytest.fail("all classes were there")

    assert check_classes(("a", "b"), maps(), predicted=False) == ()


def test_moments_add_up_whatever_the_batches():
    values = np.random.default_rng(0).normal(3, 2, (4, 5, 9, 11)).astype(np.float32)

    once = Moments.of(values)
    twice = Moments.of(values[:1]) + Moments.of(values[1:])

    inner = values[:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(twice.mean, once.mean)
    np.testing.assert_allclose(once.mean, inner.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(twice.deviation, inner.std((0, 2, 3)), rtol=1e-5)


def linear_layer(seed: int = 0):
    """A layer of 12 channels, BatchNorm's moments of it, and what it makes of pixels as it is."""
    dice = np.random.default_rng(seed)
    response = ColorResponse(dice.normal(0, 1, 12), dice.normal(0, 0.02, (12, 3)))
    deviations = dice.uniform(0.5, 2, 12)

    def moments(gain=1.0, offset=(0.0, 0, 0)) -> Moments:
        mean = (
            response.rest
            + gain * (response.slope @ (COLOR - USUAL.mean))
            + response.slope @ (np.asarray(offset))
        )
        return Moments(1, mean, mean**2 + (gain * deviations) ** 2)

    true = moments()
    expected = LayerMoments("w", tuple(true.mean.tolist()), tuple(deviations.tolist()))
    return expected, moments, response


@pytest.mark.parametrize("gain", [1.0, 0.1, 60.0])
@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (50.0, -20.0, 110.0)])
def test_gain_and_offset_are_read_off_a_linear_layer(gain, offset):
    expected, moments, response = linear_layer()

    fit = fit_pixels(expected, moments(gain, offset), response)

    assert fit.gain == pytest.approx(1 / gain)
    assert fit.offset == pytest.approx([-value / gain for value in offset], abs=1e-6)


def test_a_channel_that_hardly_varies_does_not_decide():
    expected, moments, _ = linear_layer()
    dead = LayerMoments("w", expected.means, (1e-9, *expected.deviations[1:]))
    off = moments(offset=(0.01, 0, 0))

    assert distance(dead, off) < 1e-3
    assert distance(expected, moments()) == pytest.approx(0, abs=1e-12)


def test_swapping_the_colours_moves_red_and_blue_of_the_fit():
    fit = PixelFit(2.0, (1.0, 2.0, 3.0)).swapped(np.array([100.0, 50, 80]))

    assert fit.offset == pytest.approx((1 + 2 * 20, 2, 3 - 2 * 20))


def test_sound_pixels_are_fine():
    assert check_pixels(USUAL, SOUND, COLOR, [0.1, 0.05], SURE) == ()


def test_a_wrong_mean_is_refused_with_the_one_that_fits():
    fit = PixelFit(1.1, (-120.0, -115.0, -100.0))
    zero = Normalization(mean=(0, 0, 0))

    found = only(check_pixels(zero, fit, COLOR, [9.0], SURE))

    assert (found.severity, found.subject) == (Severity.REFUSE, Fault.MEAN)
    assert "(0, 0, 0) is subtracted, (109, 105, 90.9) would fit" in found.sentence
    assert "red +120, green +115, blue +100" in found.sentence


def test_night_is_only_a_warning():
    found = only(check_pixels(USUAL, PixelFit(1.7, (70.0, 70.0, 70.0)), COLOR, [0.2], SURE))

    assert (found.severity, found.subject) == (Severity.WARN, Fault.MEAN)


@pytest.mark.parametrize(
    ("gain", "severity", "kind"),
    [(1 / 57, "refuse", "57 times too large"), (255.0, "refuse", "255 times too small"),
     (2.2, "warn", "2.2 times too small")],
)  # fmt: skip
def test_wrongly_scaled_pixels_are_told_by_how_much(gain, severity, kind):
    found = only(check_pixels(USUAL, PixelFit(gain, (300.0, 0, 0)), COLOR, [3.0], SURE))

    assert (found.severity, found.subject) == (severity, Fault.GAIN)
    assert kind in found.sentence


def test_swapped_colours_are_refused_when_the_network_is_sure():
    swapped = [(b, a) for a, b in SURE]

    found = only(check_pixels(USUAL, SOUND, COLOR, [0.1], swapped))

    assert (found.severity, found.subject) == (Severity.REFUSE, Fault.COLOUR_ORDER)
    assert "on 16 of 16 images" in found.sentence


@pytest.mark.parametrize(
    "margins",
    [
        [(5.0, 5.0)] * 16,  # grey
        [(5.0, 5.01 + k % 2 / 1000) for k in range(16)],  # always, but hardly surer
        [(5.0, 5.0 + (-1) ** k) for k in range(16)],  # now this, now that
        [(4.0, 5.0)] * 3,  # three images are too few to tell
        [],
    ],
)
def test_without_evidence_the_colours_are_left_alone(margins):
    assert check_color_order(margins) is None


def test_asking_stops_when_the_colours_are_settled():
    def margins():
        yield from SURE[:4]
        pytest.fail("four images were enough")

    assert check_color_order(margins()) is None


def test_a_wrong_mean_is_not_taken_for_swapped_colours():
    swapped = [(b, a) for a, b in SURE]  # what a network says that sees nonsense
    fit = PixelFit(1.0, (90.0, 80.0, 70.0))

    assert only(check_pixels(USUAL, fit, COLOR, [5.0], swapped)).subject is Fault.MEAN


def test_colours_far_apart_that_swapping_explains_are_swapped():
    blue_sea = np.array([20.0, 90, 180])
    fit = PixelFit(1.0, (160.0, 0.0, -160.0))

    found = only(check_pixels(USUAL, fit, blue_sea, [5.0], [(b, a) for a, b in SURE]))

    assert found.subject is Fault.COLOUR_ORDER


def test_activations_that_nothing_explains_are_a_warning():
    found = only(check_pixels(USUAL, SOUND, COLOR, [1.2, 1.4], SURE))

    assert (found.severity, found.subject) == (Severity.WARN, Fault.FAR)


def test_a_margin_is_the_best_class_less_the_second():
    logits = np.array([1.0, 4.0, 2.5, 0.0], np.float16).reshape(1, 4, 1, 1)

    assert margin_of(logits) == pytest.approx(1.5)


def test_the_first_refusal_is_raised_and_warnings_are_not():
    warning = Complaint(Severity.WARN, Fault.COUNT, "3 images", "add some")
    refusals = [
        Complaint(Severity.REFUSE, Fault.NOISE, "one is noise", "take it out"),
        Complaint(Severity.REFUSE, Fault.MEAN, "the mean is wrong", "correct it"),
    ]

    raise_refusals([warning])
    with pytest.raises(SegdeployError, match=r"one is noise \(and 1 more\)") as caught:
        raise_refusals([warning, *refusals])

    assert caught.value.hint == "take it out"
