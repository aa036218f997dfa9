"""Which cause is named, and what undoes one."""

import numpy as np
import pytest

from segdeploy.causes import (
    STEPS,
    TURNS,
    Attempt,
    Cause,
    ColorResponse,
    class_offset,
    fit_normalization,
    is_close,
    likely,
    match_classes,
    mean_by_padding,
    moved_image,
    overlap,
    percent,
    pixels_as_if,
    step_words,
    swapped_behind,
    try_classes,
    usual_mistakes,
)
from segdeploy.difference import count_pairs
from segdeploy.spec import Normalization, Size

NAMES = ("road", "car", "sky", "tree")


def attempt(cause: Cause, after: float, before: float = 0.6) -> Attempt:
    return Attempt(cause, "something undone", before, after, 4)


def test_a_cause_is_told_with_its_numbers():
    told = str(Attempt(Cause.CHANNELS, "the channels swapped", 0.612, 0.9998, 4))

    assert told == "with the channels swapped, 99.98 % of the pixels agree instead of 61.20 %"


@pytest.mark.parametrize(("share", "shown"), [(1.0, "100.00 %"), (0.999999, "99.99 %")])
def test_nearly_all_is_not_shown_as_all(share, shown):
    assert percent(share) == shown


def test_the_narrower_of_two_causes_that_explain_all_is_named():
    found = likely([attempt(Cause.CHECKPOINT, 1.0), attempt(Cause.CHANNELS, 0.99)])

    assert found.cause is Cause.CHANNELS


def test_a_wider_cause_that_explains_much_more_is_named():
    found = likely([attempt(Cause.CHECKPOINT, 1.0), attempt(Cause.CHANNELS, 0.85)])

    assert found.cause is Cause.CHECKPOINT


@pytest.mark.parametrize(
    ("cause", "before", "after"),
    [
        (Cause.CHANNELS, 0.6, 0.79),  # less than half of what differs
        (Cause.CHANNELS, 0.9996, 1.0),  # too little to tell from rounding
        (Cause.CLASSES, 0.6, 0.9),  # any two label maps agree better when classes are renamed
        (Cause.SCALE, 0.6, 0.98),  # more is left than int8 leaves
    ],
)
def test_what_explains_too_little_is_not_named(cause, before, after):
    assert likely([attempt(cause, after, before)]) is None


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_matched_one_to_one(seed):
    dice = np.random.default_rng(seed)
    truth = dice.integers(0, 19, (64, 64)).astype(np.uint8)
    order = dice.permutation(19).astype(np.uint8)
    other = order[truth]
    wrong = dice.random(truth.shape) < 0.2
    other[wrong] = dice.integers(0, 19, int(wrong.sum()))

    match = match_classes(count_pairs(truth, other))

    assert (match[order] == np.arange(19)).all()
    assert sorted(match.tolist()) == list(range(256))


def test_a_greedy_match_is_improved_by_exchanging_pairs():
    counts = np.zeros((256, 256), np.int64)
    counts[0, 0], counts[0, 1], counts[1, 0] = 10, 9, 9  # greedy takes the 10, and then nothing

    match = match_classes(counts)

    assert match[:2].tolist() == [1, 0]


def test_classes_that_did_not_move_are_no_attempt():
    labels = np.arange(4, dtype=np.uint8).reshape(2, 2)

    assert list(try_classes(count_pairs(labels, labels), NAMES, 1)) == []


def test_exchanged_classes_are_named():
    truth = np.arange(4, dtype=np.uint8).reshape(2, 2)
    other = np.array([0, 2, 1, 3], np.uint8)[truth]

    (found,) = try_classes(count_pairs(truth, other), NAMES, 1)

    assert (found.before, found.after) == (0.5, 1.0)
    assert found.what == "car taken for sky, sky taken for car"


def test_ids_that_are_one_too_high_are_told_as_such():
    truth = np.arange(4, dtype=np.uint8).reshape(2, 2)

    (found,) = try_classes(count_pairs(truth, truth + 1), NAMES, 1)

    assert found.what == "each class id one lower"


def test_every_turn_undoes_itself():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

    assert all((turn(turn(image)) == image).all() for turn in TURNS.values())
    assert len({turn(image).tobytes() for turn in TURNS.values()}) == len(TURNS)


@pytest.mark.parametrize("step", STEPS, ids=step_words)
def test_a_moved_label_map_is_moved_back(step):
    labels = np.random.default_rng(0).integers(0, 9, (6, 7)).astype(np.uint8)
    back = (-step[0], -step[1])
    moved = moved_image(back, labels)

    one, other = overlap(labels, moved, step)

    assert (one == other).all()
    assert one.shape == (4, 5)


def test_steps_are_told_in_words():
    assert step_words((1, -1)) == "one pixel down and left"
    assert step_words((0, 1)) == "one pixel right"


@pytest.mark.parametrize("other", usual_mistakes(Normalization()).values())
def test_pixels_are_made_as_if_by_another_normalization(other, blocks):
    own, image = Normalization(), blocks(Size(8, 9))[0]

    pixels = pixels_as_if(image, own, other)

    wanted = (image - np.array(other.mean)) / np.array(other.std)
    assert (pixels - np.array(own.mean)) / np.array(own.std) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("divided", [False, True])
def test_channels_are_swapped_behind_the_mean(divided, blocks):
    own, image = Normalization(), blocks(Size(8, 9))[0]

    pixels = swapped_behind(image, own, divided=divided)

    before = image - np.array(own.mean)
    after = pixels - np.array(own.mean)
    if divided:
        before, after = before / np.array(own.std), after / np.array(own.std)
    assert after == pytest.approx(before[..., ::-1], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_first_layer_shows_the_normalization(seed):
    dice, own = np.random.default_rng(seed), Normalization()
    wanted = Normalization(tuple(dice.uniform(0, 255, 3)), tuple(dice.uniform(20, 200, 3)))
    weights, bias = dice.normal(size=(16, 3)), dice.normal(size=16)

    found = fit_normalization(
        own, first_layer(own, weights, bias), first_layer(wanted, weights, bias)
    )

    assert is_close(found, wanted)
    assert not is_close(found, own)


def first_layer(normalization: Normalization, weights, bias) -> ColorResponse:
    slope = weights / np.array(normalization.std)
    return ColorResponse(bias - slope @ np.array(normalization.mean), slope)


def test_another_layer_shows_none():
    dice = np.random.default_rng(0)
    weights, bias = dice.normal(size=(16, 3)), dice.normal(size=16)
    own = first_layer(Normalization(), weights, bias)

    assert (
        fit_normalization(Normalization(), own, first_layer(Normalization(), -weights, bias))
        is None
    )


CORNERS = (0.6, 0.3)  # of the weights: what two borders lack


def padded(normalization: Normalization, seed: int) -> tuple[ColorResponse, ColorResponse]:
    """A first layer that pads zeros, its channels stretched and moved; inside, and what lacks."""
    dice = np.random.default_rng(seed)
    weights, bias = dice.normal(size=(16, 3)), dice.normal(size=16)
    stretch, step = 10 ** dice.uniform(-3, 3, 16), dice.normal(size=16)
    inside = first_layer(normalization, weights * stretch[:, None], bias * stretch + step)
    parts = [first_layer(normalization, part * weights * stretch[:, None], 0) for part in CORNERS]
    lacking = (np.concatenate([getattr(p, name) for p in parts]) for name in ("black", "slope"))
    return inside, ColorResponse(*lacking)


@pytest.mark.parametrize("seed", range(3))
def test_a_border_shows_the_mean_through_stretched_and_moved_channels(seed):
    mean = tuple(np.random.default_rng(seed).uniform(0, 255, 3))

    found = mean_by_padding(*padded(Normalization(mean), seed))

    assert found == pytest.approx(mean)


def test_a_layer_that_pads_nothing_shows_no_mean():
    inside, lacking = padded(Normalization(), 0)
    without = ColorResponse(0 * lacking.black, 1e-7 * lacking.slope)

    assert mean_by_padding(inside, without) is None
    assert mean_by_padding(inside, ColorResponse(lacking.black * np.nan, lacking.slope)) is None


def test_the_class_whose_logits_are_moved_is_found_whatever_moves_all():
    logits = np.random.default_rng(0).normal(size=(4, 8, 9)).astype(np.float32)
    other = logits + 2  # of all classes alike, which changes no label
    other[1] -= 5

    index, offset = class_offset(logits, other)

    assert (NAMES[index], offset) == ("car", pytest.approx(5, abs=1e-5))
