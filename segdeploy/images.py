"""Image files in and out, and mmseg's resize: cv2, bilinear on uint8, keep ratio."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from segdeploy.errors import OversizeError, SegdeployError
from segdeploy.spec import ClassSet, Image, LabelMap, Size

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # our errors name the file

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# Their header says what decoding takes. That of a TIFF does not: its tiles may be larger than it.
SIZED_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


def read_image(path: Path) -> Image:
    """Decode to RGB (H, W, 3) as mmseg does: cv2 IMREAD_COLOR, EXIF orientation honoured."""
    return _decode(_read_bytes(path), str(path))


def decode_image(data: bytes, name: str, *, max_pixels: int | None = None) -> Image:
    """`read_image` of what is in memory.

    Args:
        data: a whole image file.
        name: what stands for its path in an error.
        max_pixels: of images from strangers, since a few kilobytes may decode to gigabytes; only
            PNG, JPEG, WebP and BMP are taken then, and refused by their header.

    Raises:
        OversizeError: it has more pixels.
        SegdeployError: it is no image, or a damaged one.
    """
    if not data:
        raise SegdeployError(f"{name}: is empty")
    if max_pixels is not None:
        _check_header(data, name, max_pixels)
    return _decode(np.frombuffer(data, np.uint8), name)


def _check_header(data: bytes, name: str, max_pixels: int) -> None:
    try:
        with PillowImage.open(BytesIO(data), formats=SIZED_FORMATS) as file:
            size = Size(file.height, file.width)
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise OversizeError(f"{name}: is too large an image ({error})") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise SegdeployError(
            f"{name}: not an image, or a damaged one ({len(data)} bytes)",
            hint=f"wanted {', '.join(SIZED_FORMATS)}",
        ) from error
    if size.height * size.width > max_pixels:
        raise OversizeError(f"{name}: is an image of {size}; wanted up to {max_pixels} pixels")


def _decode(data: NDArray[np.uint8], name: str) -> Image:
    try:
        image_bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:  # an oversized or inconsistent header
        raise SegdeployError(f"{name}: cannot be decoded as an image ({error.err})") from error
    if image_bgr is None:
        raise SegdeployError(f"{name}: not an image, or a damaged one ({data.size} bytes)")
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB))


def read_labels(path: Path) -> LabelMap:
    """Decode a label PNG to its stored values (H, W); palette files give indices, as in mmseg."""
    data = _read_bytes(path)
    try:
        with PillowImage.open(BytesIO(data.tobytes()), formats=("PNG",)) as file:
            if file.mode not in ("L", "P", "1"):
                raise SegdeployError(
                    f"{path}: has mode {file.mode}; wanted one 8-bit channel of class ids",
                    hint="colour-coded annotations must be converted to class ids first",
                )
            labels = np.array(file, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
        raise SegdeployError(f"{path}: not a label image, or a damaged one ({error})") from error
    return labels


def _read_bytes(path: Path) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        raise SegdeployError(f"{path}: no such file") from error
    except OSError as error:
        raise SegdeployError(f"{path}: cannot be read ({error.strerror})") from error
    if data.size == 0:
        raise SegdeployError(f"{path}: the file is empty")
    return data


def encode_png(image: Image | LabelMap) -> bytes:
    """(H, W, 3) RGB or (H, W) uint8 as PNG."""
    ok, data = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    if not ok:
        raise SegdeployError(f"an array of {image.shape} cannot be encoded as PNG")
    return data.tobytes()


def encode_jpeg(image: Image, quality: int) -> bytes:
    """(H, W, 3) RGB as JPEG: for showing; a mask wants PNG."""
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise SegdeployError(f"an array of {image.shape} cannot be encoded as JPEG")
    return data.tobytes()


def write_png(path: Path, image: Image | LabelMap) -> None:
    """Write (H, W, 3) RGB or (H, W) uint8 as PNG, atomically."""
    data = encode_png(image)
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise SegdeployError(f"{path}: cannot be written ({error.strerror})") from error


def scaled_size(size: Size, scale: tuple[int, int]) -> Size:
    """What mmseg's Resize(scale, keep_ratio=True) gives; `scale` is (long side, short side)."""
    long_side, short_side = max(scale), min(scale)
    factor = min(long_side / max(size), short_side / min(size))
    scaled = Size(int(size.height * factor + 0.5), int(size.width * factor + 0.5))
    if 0 in scaled:
        raise SegdeployError(
            f"an image of {size} is too narrow to be scaled to fit {long_side}x{short_side}"
        )
    return scaled


def resize(image: Image, size: Size) -> Image:
    """cv2 INTER_LINEAR on uint8, as in mmseg's test pipeline; a no-op at the same size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_LINEAR))


def resize_labels(labels: LabelMap, size: Size) -> LabelMap:
    """Nearest class of each pixel: for showing a mask; a score wants resized logits."""
    if labels.shape == size:
        return labels
    return np.asarray(
        cv2.resize(labels, (size.width, size.height), interpolation=cv2.INTER_NEAREST)
    )


def network_input(image: Image, scale: tuple[int, int] | None) -> Image:
    """The image as the network sees it: resized to the test scale, or as it is without one."""
    if scale is None:
        return image
    return resize(image, scaled_size(Size(*image.shape[:2]), scale))


def colorize(labels: LabelMap, classes: ClassSet) -> Image:
    """Paint each class in its colour; ids outside the class set are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = classes.palette
    return table[labels]


def overlay(image: Image, labels: LabelMap, classes: ClassSet, opacity: float = 0.5) -> Image:
    """The image with its label map laid over it."""
    painted = colorize(labels, classes)
    return np.asarray(cv2.addWeighted(image, 1 - opacity, painted, opacity, 0))


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
