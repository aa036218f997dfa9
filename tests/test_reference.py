"""What a measured row says beside the published one."""

from dataclasses import replace

import pytest
from measured import PYTORCH, RANDOM, TARGET, report, timed

from segdeploy.measurement import Tally
from segdeploy.recipes import load_targets
from segdeploy.reference import against, footnotes

FULL = replace(PYTORCH, resolution="1024x2048")  # 10 fps, mIoU 65 over all 500 images
SLOW = replace(TARGET, fps=5.0, miou=60.0)


def test_a_row_that_is_better_in_both_has_reached_it() -> None:
    found = against(FULL, SLOW)

    assert found.verdict == "reached"
    assert found.sentence == "mIoU 5.00 points above the published; 2.00 times the published fps"


def test_a_row_that_is_worse_in_both_has_not() -> None:
    found = against(FULL, TARGET)

    assert found.verdict == "not reached"
    assert found.sentence == "mIoU 6.19 points below the published; 0.70 times the published fps"


def test_one_of_two_is_a_part() -> None:
    assert against(FULL, replace(SLOW, miou=71.19)).verdict == "partly reached"
    assert against(FULL, replace(SLOW, fps=64.0)).verdict == "partly reached"


def test_an_miou_counts_at_the_digits_that_were_published() -> None:
    tally = Tally(images=500, classes=("a",), counts=((71_186, 28_814), (0, 0)))

    found = against(replace(FULL, tally=tally), replace(SLOW, miou=71.19))

    assert found.has_miou
    assert not against(replace(FULL, tally=tally), replace(SLOW, miou=71.20)).has_miou


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (PYTORCH, "512x1024 here, 1024x2048 there"),
        (replace(FULL, batch=4), "batch 4 here, 1 there"),
    ],
)
def test_another_size_or_batch_is_not_compared(row, reason) -> None:
    found = against(row, SLOW)

    assert found.verdict == "not comparable"
    assert (found.miou_change, found.times) == (None, None)
    assert reason in found.sentence


def test_an_miou_over_a_part_of_the_images_is_not_judged() -> None:
    part = replace(FULL, tally=replace(FULL.tally, images=20))

    found = against(part, SLOW)

    assert found.miou_change is None
    assert found.times == pytest.approx(2)
    assert "mIoU over 20 of 500 images" in found.sentence


def test_random_weights_have_a_speed_only() -> None:
    found = against(replace(RANDOM, resolution="1024x2048"), replace(SLOW, miou=None))

    assert (found.miou_change, found.verdict) == (None, "reached")
    assert "mIoU was not measured" in found.sentence


def test_fps_of_many_passes_are_not_set_beside_those_of_one() -> None:
    row = replace(FULL, mode="ms+flip", resolution="1024x2048, ms+flip")

    found = against(row, SLOW)

    assert found.times is None
    assert found.miou_change == pytest.approx(5)
    assert "those of one pass" in found.sentence


@pytest.mark.parametrize("resolution", ["short side 512", "512x683"])
def test_both_ways_to_name_the_size_of_ade20k_are_known(resolution) -> None:
    row = replace(FULL, resolution=resolution, boundaries=timed(10.0, 10.0))

    assert against(row, load_targets()["fcn-ade20k"]).times == pytest.approx(100 / 64.4)


def test_what_is_odd_about_the_published_rows_is_told_once() -> None:
    models = ("fcn-cityscapes", "deeplabv3-cityscapes", "pspnet-ade20k")
    rows = [replace(PYTORCH, model=model) for model in models]

    notes = footnotes(report(*rows, targets=load_targets()).references.values())

    assert len(notes) == len(set(notes))
    assert notes[0] == "fps and memory are the V100 figures of 2020"
    assert any("74.1" in note for note in notes)
    assert sum("1024x2048" in note for note in notes) == 1
    assert sum("PyTorch in 2020" in note for note in notes) == 1
    assert footnotes([]) == ()
