"""Pictures as Python reads them: turned as Exif says, and refused where they end early."""

import io
import struct

import numpy as np
import pytest
from cpp_build import SIZE
from PIL import Image

import segdeploy
from segdeploy.errors import SegdeployError
from segdeploy.images import read_image, read_labels
from segdeploy.spec import Size

pytestmark = pytest.mark.xdist_group("cpp")
FORMATS = ("jpeg", "png", "bmp")


def exif(orientation: int, order: str = ">", entries: int = 2) -> bytes:
    """A TIFF of two entries: the camera's name, and how it was held."""
    named = struct.pack(order + "HHI4s", 0x010F, 2, 2, b"x")
    held = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    header = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, entries)
    return header + named + held + bytes(4)


def picture(kind: str, tag: bytes = b"", size: Size = SIZE) -> bytes:
    """Grey blocks of the size of a JPEG's, flat, so that all decoders agree on every pixel."""
    dice = np.random.default_rng(0)
    blocks = dice.integers(0, 256, (size.height // 8, size.width // 8), np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(blocks.repeat(8, 0).repeat(8, 1))
    image.save(file, kind, exif=b"Exif\0\0" + tag if kind == "jpeg" else tag, quality=100)
    return file.getvalue()


def pictures() -> dict[str, bytes]:
    """Files that Python takes, by name."""
    lying = Size(SIZE.width, SIZE.height)
    files = {
        f"{kind}-{held}{'-little' if order == '<' else ''}.{kind}": picture(
            kind, exif(held, order), lying if 5 <= held <= 8 else SIZE
        )
        for kind in ("jpeg", "png")
        for order in "<>"
        for held in range(10)  # 0 and 9 are nothing
    }
    damaged = {
        "nothing": b"",
        "words": b"neither II nor MM",
        "magic": exif(3).replace(b"\0*", b"\0+"),
        "far": exif(3)[:4] + b"\xff" * 4 + exif(3)[8:],
        "many": exif(1)[:8] + b"\xff\xff" + exif(1)[10:],
        "short": exif(3)[:30],
    }
    for name, tag in damaged.items():
        files[f"{name}-png.png"] = picture("png", tag)
        files[f"{name}-jpeg.jpeg"] = picture("jpeg", tag)
    return files


def test_they_are_turned_as_exif_says(segdeploy_run, engine, tmp_path):
    files = pictures()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    places = {name: tmp_path / name for name in files}

    done = segdeploy_run(engine.path, *places.values(), "-o", tmp_path / "out")

    assert done.stderr == ""
    seen = set()
    with segdeploy.open(engine.path) as opened, opened.session() as session:
        for name, path in places.items():
            image = read_image(path)
            seen.add((path.suffix, image.tobytes()))
            labels = read_labels(tmp_path / "out" / f"{path.stem}.png")
            assert np.array_equal(labels, session.run(image[None])[0]), name
    assert len(seen) == 2 * 8  # each turn is another image


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("missing", [1, 2, 100, "half"])
def test_one_that_ends_early_is_refused(missing, kind, segdeploy_run, engine, tmp_path):
    content = picture(kind)
    content = content[: -missing if missing != "half" else len(content) // 2]
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(content)

    done = segdeploy_run(engine.path, path, "-o", tmp_path / "out")

    with pytest.raises(SegdeployError):
        read_image(path)
    assert f"{path}: not an image, or a damaged one (" in done.stderr
    assert done.returncode == 1
    assert not (tmp_path / "out").exists()
