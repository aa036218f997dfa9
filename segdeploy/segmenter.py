"""The short way in: open an engine, give it images, get label maps."""

from pathlib import Path
from typing import Any, Self

import numpy as np

from segdeploy.artifacts import Manifest
from segdeploy.closing import Closing
from segdeploy.errors import SegdeployError
from segdeploy.images import overlay, read_image
from segdeploy.pipeline.modes import WHOLE, Mode
from segdeploy.pipeline.segment import Opening, open_named, segment
from segdeploy.runtime.pool import SessionPool
from segdeploy.spec import ClassSet, Device, Image, LabelMap

USUAL = Opening()


class Segmenter(Closing):
    """A model that segments images of any size; all threads may share it, and it is closed once.

    ```python
    with Segmenter.open("artifacts/demo/int8.onnxruntime.ort") as segmenter:
        labels = segmenter.segment("street.png")
    ```
    """

    def __init__(self, name: str, opening: Opening = USUAL, *, sessions: int = 1) -> None:
        """Open; see `open`."""
        self._engine = open_named(name, opening)
        try:
            self._pool = SessionPool(self._engine, sessions)
        except SegdeployError:
            self._engine.close()
            raise
        self.manifest: Manifest = self._engine.manifest
        self.device: Device = self._engine.device
        self.classes: ClassSet = self.manifest.classes

    @classmethod
    def open(cls, name: str | Path, opening: Opening = USUAL, *, sessions: int = 1) -> Self:
        """Open an artifact by its file, or a model by its name.

        Args:
            name: a .onnx, .ort or .plan file, or a model such as "demo".
            opening: where and how it runs.
            sessions: how many threads can segment at the same time; others wait for them.

        Raises:
            SegdeployError: there is no such thing, or it does not fit this machine.
        """
        return cls(str(name), opening, sessions=sessions)

    def segment(self, image: Image | str | Path, mode: Mode = WHOLE) -> LabelMap:
        """(H, W, 3) uint8 RGB or an image file -> class ids (H, W) uint8, as mmseg finds them.

        The image is resized as the data set's test protocol says, the labels back to its size.

        Raises:
            SegdeployError: it is no image, or this is closed.
        """
        pixels = read_image(Path(image)) if isinstance(image, str | Path) else _checked(image)
        with self._pool.session() as session:
            return segment(session, pixels, mode)

    def paint(self, image: Image, labels: LabelMap) -> Image:
        """The image with its classes in their colours over it."""
        return overlay(image, labels, self.classes)

    def close(self) -> None:
        """Free it; once."""
        self._pool.close()
        self._engine.close()


def _checked(image: Any) -> Image:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        return image
    found = (
        f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    )
    raise SegdeployError(
        f"an image is {found}; wanted a file, or an array (H, W, 3) of uint8",
        hint="RGB as decoded; OpenCV reads BGR: image[..., ::-1]",
    )
