"""Floors of accuracy: what they mean, and which scores miss them."""

import pytest

from segdeploy.accuracy import AccuracyFloor, Bound, Score
from segdeploy.errors import SegdeployError

FP32 = Score(80.0, {"road": 95.0, "pole": 40.0, "bus": None})


@pytest.mark.parametrize(
    ("text", "least"), [("99%", 79.2), ("99.9%", 79.92), ("100%", 80.0), ("-0.5", 79.5), ("-0", 80)]
)
def test_a_bound_is_a_share_or_points(text, least):
    bound = Bound.parse(text)

    assert bound.least(80.0) == pytest.approx(least)
    assert Bound.parse(str(bound)) == bound


@pytest.mark.parametrize(
    "text",
    ["", "99", "0.5", "-1%", "0%", "101%", "-101", "nan%", "-inf", "1e1%", "%", "9" * 400 + "%"],
)
def test_a_bound_that_means_nothing_is_refused(text):
    with pytest.raises(SegdeployError, match="wanted a share of fp32 up to 100%, or points"):
        Bound.parse(text)


def test_a_miss_names_what_was_found_and_wanted():
    floor = AccuracyFloor.parse("99%", ["pole=-1.0", "road=99%"])

    missed = floor.misses(FP32, Score(79.0, {"road": 94.9, "pole": 38.5, "bus": None}))

    assert missed == (
        "mIoU is 79.000, wanted 79.200 (99% of fp32's 80.000)",
        "IoU of pole is 38.500, wanted 39.000 (-1 of fp32's 40.000)",
    )


def test_equal_scores_meet_every_floor():
    floor = AccuracyFloor.parse("100%", ["pole=100%", "road=-0"])

    assert floor.misses(FP32, FP32) == ()


def test_only_the_classes_that_are_named_count():
    floor = AccuracyFloor.parse(None, ["road=99%"])

    assert floor.misses(FP32, Score(10.0, {"road": 95.0, "pole": 0.0})) == ()


@pytest.mark.parametrize("text", ["pole", "=99%", "pole=", "pole=1"])
def test_a_class_floor_names_a_class_and_a_bound(text):
    with pytest.raises(SegdeployError, match="floor"):
        AccuracyFloor.parse("99%", [text])


def test_a_class_name_may_hold_an_equals_sign():
    floor = AccuracyFloor.parse(None, ["a=b=99%"])

    assert floor.per_class == (("a=b", Bound(percent=99.0)),)


def test_a_floor_of_nothing_is_refused():
    with pytest.raises(SegdeployError, match="a floor of nothing"):
        AccuracyFloor.parse(None)


def test_a_class_has_one_floor():
    with pytest.raises(SegdeployError, match="class pole has two floors"):
        AccuracyFloor.parse(None, ["pole=99%", "pole=-1"])


def test_a_floor_of_an_unknown_class_is_refused():
    with pytest.raises(SegdeployError, match="class 'tram' is unknown") as caught:
        AccuracyFloor.parse(None, ["tram=99%"]).check(FP32)

    assert caught.value.hint == "one of road, pole, bus"


def test_a_floor_of_a_class_that_does_not_occur_is_refused():
    with pytest.raises(SegdeployError, match="class bus occurs in none of the images"):
        AccuracyFloor.parse(None, ["bus=99%"]).check(FP32)


@pytest.mark.parametrize("miou", [-1.0, 100.5, float("nan")])
def test_a_score_is_percent(miou):
    with pytest.raises(SegdeployError, match="wanted percent"):
        Score(miou)
