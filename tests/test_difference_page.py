"""The page: all numbers, and pictures beside it."""

import json
import math

import numpy as np
import pytest

from segdeploy.accuracy import Score
from segdeploy.causes import Attempt, Cause
from segdeploy.difference import Difference, ImageMatch, LayerNoise
from segdeploy.difference_page import Picture, draw, to_json, write_page
from segdeploy.errors import SegdeployError
from segdeploy.images import read_image
from segdeploy.spec import ClassSet, Precision, Size

CLASSES = ClassSet.numbered(2)
FOUND = Difference(
    reference="a|b.onnx",
    other="c.onnx",
    dataset="demo",
    images=(ImageMatch("0", 0.9), ImageMatch("1", 0.5)),
    precision=Precision.FP32,
    agreement=0.7,
    between=Score(30.0, {"class 0": 60.0, "class 1": 0.0}),
    pixels={"class 0": 1200, "class 1": 0},
    before=Score(80.0, {"class 0": 80.0, "class 1": None}),
    after=Score(27.5, {"class 0": 55.0, "class 1": 0.0}),
    logits_sqnr_db=math.inf,
    layers=(LayerNoise("stem", "x", "y", math.inf), LayerNoise("head", "x", "y", 7.25, 2)),
    attempts=(Attempt(Cause.CHANNELS, "the channels swapped", 0.7, 1.0, 2),),
    untried=("one scale: there is no graph",),
    notes=("c.onnx: a note",),
)


@pytest.fixture
def picture(blocks) -> Picture:
    labels = np.zeros((20, 30), np.uint8)
    other = labels.copy()
    other[:5] = 1
    return Picture("0", blocks(Size(20, 30))[0], labels, other)


def test_the_page_lies_beside_its_pictures_and_numbers(tmp_path, picture):
    page = write_page(FOUND, [picture], CLASSES, tmp_path / "made", "segdeploy diff a c")

    text = page.read_text()
    assert page == tmp_path / "made" / "diff.md"
    assert "**Swapped channels: with the channels swapped, 100.00 %" in text
    assert "# a\\|b.onnx and c.onnx" in text
    lost = "| class 1 | absent | 0.00 | - | 0.00 |"  # only the other predicts it: it comes first
    assert f"{lost}\n| class 0 | 80.00 | 55.00 | -25.00 | 60.00 |" in text
    assert "| `stem` | equal | - |" in text
    assert "| `head` departs | 7.2 dB | 2 |" in text
    assert "Not tried: one scale" in text
    assert "![0](diff-1.png)" in text
    assert "    segdeploy diff a c" in text
    assert read_image(page.with_name("diff-1.png")).shape == (40, 60, 3)
    assert json.loads(page.with_suffix(".json").read_text())["agreement"] == 0.7


def test_the_page_can_be_named(tmp_path, picture):
    page = write_page(FOUND, [picture], CLASSES, tmp_path / "mine.md", "")

    assert page == tmp_path / "mine.md"
    assert (tmp_path / "mine-1.png").is_file()
    with pytest.raises(SegdeployError, match="is a file"):
        write_page(FOUND, [picture], CLASSES, tmp_path / "mine.json", "")


def test_pixels_that_differ_are_red(picture):
    made = draw(picture, CLASSES)

    red = (made[20:, 30:] == (255, 0, 0)).all(axis=-1)
    assert (red == (picture.reference != picture.other)).all()
    assert (made[20:, :30] == picture.image).all()


def test_json_has_everything_and_is_strict():
    text = json.dumps(to_json(FOUND), allow_nan=False)

    found = json.loads(text)
    assert found["cause"] == "swapped channels"
    assert found["first_layer_that_departs"] == "head"
    assert found["layers"][0]["sqnr_db"] is None
    assert found["attempts"][0]["explained"] == 1
    assert found["class_changes"] == [
        {"name": "class 1", "before": None, "after": 0.0, "points": 0.0},
        {"name": "class 0", "before": 80.0, "after": 55.0, "points": -25.0},
    ]
    assert found["sentence"] == FOUND.sentence
