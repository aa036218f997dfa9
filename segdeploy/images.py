"""Image files in and out, and mmseg's resize: cv2, bilinear on uint8, keep ratio."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from segdeploy.errors import SegdeployError
from segdeploy.spec import ClassSet, Image, LabelMap, Size

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 1 << 28  # 16384 x 16384: beyond it a file is damaged or hostile


def read_image(path: Path) -> Image:
    """Decode as mmseg does (cv2 IMREAD_COLOR, EXIF orientation honoured), returned as RGB (H, W, 3)."""
    data = _read_bytes(path)
    try:
        image_bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:  # an oversized or inconsistent header
        raise SegdeployError(f"{path}: cannot be decoded as an image ({error.err})") from error
    if image_bgr is None:
        raise SegdeployError(f"{path}: not an image, or a damaged one ({data.size} bytes)")
    return np.ascontiguousarray(image_bgr[..., ::-1])


def read_labels(path: Path) -> LabelMap:
    """Decode a label PNG to its stored values (H, W); palette files give indices, as in mmseg."""
    _read_bytes(path)
    try:
        with PillowImage.open(path) as file:
            if file.width * file.height > MAX_PIXELS:
                raise SegdeployError(f"{path}: {file.width} x {file.height} pixels is too large")
            if file.mode not in ("L", "P", "1"):
                raise SegdeployError(
                    f"{path}: has mode {file.mode}; wanted one 8-bit channel of class ids",
                    hint="colour-coded annotations must be converted to class ids first",
                )
            labels = np.array(file, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, PillowImage.DecompressionBombError) as error:
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


def write_png(path: Path, image: Image | LabelMap) -> None:
    """Write (H, W, 3) RGB or (H, W) uint8 as PNG, atomically."""
    ok, data = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    if not ok:
        raise SegdeployError(f"{path}: cannot be encoded as PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data.tobytes())
    temporary.replace(path)


def scaled_size(size: Size, scale: tuple[int, int]) -> Size:
    """The size that mmseg's Resize(scale, keep_ratio=True) gives; `scale` is (long side, short side)."""
    long_side, short_side = max(scale), min(scale)
    factor = min(long_side / max(size), short_side / min(size))
    return Size(int(size.height * factor + 0.5), int(size.width * factor + 0.5))


def resize(image: Image, size: Size) -> Image:
    """cv2 INTER_LINEAR on uint8, the interpolation of mmseg's test pipeline; a no-op at the same size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_LINEAR))


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
