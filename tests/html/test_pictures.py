"""Strips on disk, and their panels."""

import base64

import numpy as np
import pytest
from measured import INT8, PYTORCH, report

from segdeploy.errors import SegdeployError
from segdeploy.html.pictures import PANEL_WIDTH, Panel, Picture, read_pictures, write_pictures
from segdeploy.images import decode_image, write_png


def strip(name: str, *values: int) -> Picture:
    captions = ("image", "ground truth", *(f"row {k}" for k in range(1, len(values) - 1)))
    images = [np.full((8, PANEL_WIDTH, 3), value, np.uint8) for value in values]
    return Picture(name, tuple(Panel(*pair) for pair in zip(captions, images, strict=True)))


def test_what_was_written_is_read_back_with_the_names_of_the_rows(tmp_path) -> None:
    write_pictures([strip("town/1", 10, 20, 30, 40)], tmp_path)

    (picture,) = read_pictures(tmp_path, report(PYTORCH, INT8))

    assert picture.name == "town-1"
    assert [(panel.caption, int(panel.image[0, 0, 0])) for panel in picture.panels] == [
        ("image", 10),
        ("ground truth", 20),
        ("FCN Cityscapes, PyTorch fp32", 30),
        ("FCN Cityscapes, ONNX Runtime int8", 40),
    ]


def test_the_same_image_of_two_models_gives_two_files(tmp_path) -> None:
    paths = write_pictures([strip("a", 1, 2, 3), strip("a", 4, 5, 6)], tmp_path)

    assert [path.name for path in paths] == ["a.png", "a-2.png"]
    assert all(path.exists() for path in paths)


def test_strips_of_another_run_get_numbers(tmp_path) -> None:
    write_pictures([strip("a", 1, 2, 3)], tmp_path)

    (picture,) = read_pictures(tmp_path, report(PYTORCH, INT8))

    assert picture.panels[-1].caption == "row 1"


def test_a_picture_that_is_no_strip_is_refused(tmp_path) -> None:
    write_png(tmp_path / "photo.png", np.zeros((8, 700, 3), np.uint8))

    with pytest.raises(SegdeployError, match="700 pixels wide; wanted panels of 512"):
        read_pictures(tmp_path, report(PYTORCH))
    with pytest.raises(SegdeployError, match="no such folder"):
        read_pictures(tmp_path / "missing", report(PYTORCH))


def test_a_panel_is_an_address_that_holds_the_image() -> None:
    panel = Panel("image", np.full((8, 8, 3), (200, 100, 50), np.uint8))

    kind, _, data = panel.uri.partition(",")

    assert kind == "data:image/jpeg;base64"
    decoded = decode_image(base64.b64decode(data), "panel")
    assert np.abs(decoded.astype(int) - panel.image).max() <= 4  # JPEG
