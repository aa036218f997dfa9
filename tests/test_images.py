"""Image files in and out, and the sizes that MMSegmentation's Resize gives."""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from segdeploy.errors import OversizeError, SegdeployError
from segdeploy.images import (
    colorize,
    decode_image,
    encode_png,
    list_images,
    network_input,
    overlay,
    read_image,
    read_labels,
    resize,
    scaled_size,
    write_png,
)
from segdeploy.spec import ClassSet, Size

CLASSES = ClassSet(("sky", "road"), ((10, 20, 30), (200, 100, 0)))


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        (Size(512, 683), (2048, 512), Size(512, 683)),
        (Size(375, 500), (2048, 512), Size(512, 683)),
        (Size(256, 256), (2048, 512), Size(512, 512)),
        (Size(500, 333), (2048, 512), Size(769, 512)),
        (Size(300, 1600), (2048, 512), Size(384, 2048)),
        (Size(1024, 2048), (2048, 1024), Size(1024, 2048)),
    ],
)
def test_the_ratio_is_kept_as_in_mmseg(size, scale, expected):
    assert scaled_size(size, scale) == expected


def test_the_order_of_the_scale_does_not_matter():
    assert scaled_size(Size(300, 1600), (512, 2048)) == scaled_size(Size(300, 1600), (2048, 512))


def test_an_image_too_narrow_to_scale_is_refused():
    with pytest.raises(SegdeployError, match="1x9000 is too narrow"):
        scaled_size(Size(1, 9000), (2048, 512))


def test_resize_interpolates_with_cv2_on_bytes():
    image = picture(37, 50)

    resized = resize(image, Size(51, 68))

    expected = cv2.resize(image, (68, 51), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resized, expected)


def test_the_channel_order_does_not_change_what_resize_computes():
    image = picture(37, 50)

    resized = resize(image, Size(51, 68))

    reversed_first = resize(np.ascontiguousarray(image[..., ::-1]), Size(51, 68))
    np.testing.assert_array_equal(resized, reversed_first[..., ::-1])


def test_an_image_of_the_wanted_size_is_not_touched():
    image = picture(8, 9)

    assert resize(image, Size(8, 9)) is image


@pytest.mark.parametrize(
    ("scale", "expected"), [(None, (37, 50, 3)), ((2048, 512), (512, 692, 3))], ids=str
)
def test_the_network_sees_the_test_scale_or_the_image_itself(scale, expected):
    assert network_input(picture(37, 50), scale).shape == expected


def test_labels_are_png_only_because_jpeg_changes_ids(tmp_path):
    PillowImage.new("L", (4, 3)).save(tmp_path / "labels.png", format="JPEG")

    with pytest.raises(SegdeployError, match=r"labels\.png: not a label image"):
        read_labels(tmp_path / "labels.png")


def test_a_png_comes_back_as_written(tmp_path):
    image = picture(20, 30)

    write_png(tmp_path / "new" / "a.png", image)

    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), image)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_an_image_is_decoded_to_rgb(tmp_path):
    PillowImage.new("RGB", (4, 3), (255, 0, 7)).save(tmp_path / "red.png")

    image = read_image(tmp_path / "red.png")

    assert image.shape == (3, 4, 3)
    assert image[0, 0].tolist() == [255, 0, 7]
    assert image.flags.c_contiguous


def test_a_grey_image_gets_three_channels(tmp_path):
    PillowImage.new("L", (4, 3), 77).save(tmp_path / "grey.png")

    assert (read_image(tmp_path / "grey.png") == 77).all()


def test_the_orientation_of_a_photograph_is_honoured(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    PillowImage.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)

    assert read_image(tmp_path / "turned.jpg").shape == (40, 20, 3)


def test_a_palette_file_gives_indices(tmp_path):
    indices = np.array([[0, 1], [2, 255]], np.uint8)
    file = PillowImage.fromarray(indices, mode="L").convert("P")
    file.putpalette([9, 8, 7] * 256)
    file.putdata(indices.ravel().tolist())
    file.save(tmp_path / "palette.png")

    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png"), indices)


def test_labels_come_back_as_written(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)

    write_png(tmp_path / "labels.png", labels)

    np.testing.assert_array_equal(read_labels(tmp_path / "labels.png"), labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_labels_of_more_than_eight_bits_are_refused(tmp_path, mode):
    PillowImage.new(mode, (4, 3)).save(tmp_path / "colours.png")

    with pytest.raises(SegdeployError, match=r"colours\.png: has mode .*wanted one 8-bit channel"):
        read_labels(tmp_path / "colours.png")


@pytest.mark.parametrize("read", [read_image, read_labels])
class TestDamagedFiles:
    def test_a_missing_file_is_named(self, tmp_path, read):
        with pytest.raises(SegdeployError, match=r"gone\.png: no such file"):
            read(tmp_path / "gone.png")

    def test_an_empty_file_is_named(self, tmp_path, read):
        (tmp_path / "empty.png").touch()

        with pytest.raises(SegdeployError, match=r"empty\.png: the file is empty"):
            read(tmp_path / "empty.png")

    def test_a_folder_is_no_image(self, tmp_path, read):
        with pytest.raises(SegdeployError, match=r"cannot be read"):
            read(tmp_path)

    def test_text_is_no_image(self, tmp_path, read):
        (tmp_path / "text.png").write_text("404: not found")

        with pytest.raises(SegdeployError, match=r"text\.png: not .* image"):
            read(tmp_path / "text.png")

    @pytest.mark.parametrize("part", [0.05, 0.5, 0.98])
    def test_half_a_file_is_no_image(self, tmp_path, read, part):
        write_png(tmp_path / "half.png", picture(64, 64)[..., 0])
        data = (tmp_path / "half.png").read_bytes()
        (tmp_path / "half.png").write_bytes(data[: int(len(data) * part)])

        with pytest.raises(SegdeployError, match=r"half\.png: not .* damaged"):
            read(tmp_path / "half.png")

    def test_a_flipped_byte_is_noticed(self, tmp_path, read):
        write_png(tmp_path / "flipped.png", picture(64, 64)[..., 0])
        data = bytearray((tmp_path / "flipped.png").read_bytes())
        data[len(data) // 2] ^= 0xFF
        (tmp_path / "flipped.png").write_bytes(data)

        with pytest.raises(SegdeployError, match=r"flipped\.png: not .* damaged"):
            read(tmp_path / "flipped.png")

    def test_a_header_of_absurd_size_is_refused(self, tmp_path, read):
        header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
        chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + bytes(100))

        with pytest.raises(SegdeployError, match=r"huge\.png"):
            read(tmp_path / "huge.png")


def test_an_image_in_memory_is_decoded_like_its_file(tmp_path):
    write_png(tmp_path / "a.png", picture(40, 30))
    data = (tmp_path / "a.png").read_bytes()

    np.testing.assert_array_equal(decode_image(data, "body"), read_image(tmp_path / "a.png"))
    assert encode_png(picture(40, 30)) == data


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "body: is empty"),
        (b"404", "body: not an image, or a damaged one .3 bytes."),
        (encode_png(picture(64, 64))[:3000], "body: not an image, or a damaged one .3000 bytes."),
    ],
    ids=["empty", "text", "half"],
)
@pytest.mark.parametrize("max_pixels", [None, 10_000])
def test_what_is_in_memory_and_no_image_is_refused(data, problem, max_pixels):
    with pytest.raises(SegdeployError, match=problem):
        decode_image(data, "body", max_pixels=max_pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_an_image_that_is_too_large_is_refused_by_its_header(monkeypatch, kind):
    stream = BytesIO()
    PillowImage.new("RGB", (100, 50)).save(stream, kind)
    data = stream.getvalue()

    assert decode_image(data, "body", max_pixels=5000).shape == (50, 100, 3)
    monkeypatch.setattr("segdeploy.images._decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(OversizeError, match="is an image of 50x100; wanted up to 4999 pixels"):
        decode_image(data, "body", max_pixels=4999)


@pytest.mark.parametrize("side", [10_000, 30_000], ids=["Pillow warns", "Pillow refuses"])
def test_what_pillow_calls_an_attack_is_too_large(side):
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    end = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))

    with pytest.raises(OversizeError, match="body: is too large an image"):
        decode_image(b"\x89PNG\r\n\x1a\n" + chunk + end, "body", max_pixels=10_000)


def test_a_tiff_is_not_taken_from_strangers():
    stream = BytesIO()
    PillowImage.new("RGB", (100, 50)).save(stream, "TIFF")

    assert decode_image(stream.getvalue(), "body").shape == (50, 100, 3)
    with pytest.raises(SegdeployError, match="not an image"):
        decode_image(stream.getvalue(), "body", max_pixels=10_000)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(SegdeployError, match=r"a\.png: cannot be written"):
        write_png(tmp_path / "file" / "a.png", picture(4, 4))


def test_classes_are_painted_in_their_colours_and_the_rest_black():
    painted = colorize(np.array([[0, 1, 255]], np.uint8), CLASSES)

    assert painted.tolist() == [[[10, 20, 30], [200, 100, 0], [0, 0, 0]]]


def test_an_overlay_is_between_image_and_colours():
    image = np.full((1, 2, 3), 100, np.uint8)

    laid_over = overlay(image, np.array([[0, 1]], np.uint8), CLASSES, opacity=0.5)

    assert laid_over.tolist() == [[[55, 60, 65], [150, 100, 50]]]


def test_only_images_are_listed_and_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "c.png").mkdir()

    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png"]
