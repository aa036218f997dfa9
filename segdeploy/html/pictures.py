"""Pictures of a report: panels side by side, as bench writes them and as the page shows them."""

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segdeploy.errors import SegdeployError
from segdeploy.images import encode_jpeg, read_image, write_png
from segdeploy.measurement import Measurement
from segdeploy.report import Report
from segdeploy.spec import Image

PANEL_WIDTH = 512  # pixels
QUALITY = 82  # of a JPEG: the page stays small, and colours of classes stay apart
GIVEN = ("image", "ground truth")  # the first two panels


@dataclass(frozen=True)
class Panel:
    """One image of a picture, and what it shows."""

    caption: str
    image: Image

    @property
    def uri(self) -> str:
        """The image itself, as an address within the page."""
        data = base64.b64encode(encode_jpeg(self.image, QUALITY)).decode("ascii")
        return f"data:image/jpeg;base64,{data}"


@dataclass(frozen=True)
class Picture:
    """One image of a data set: as it is, as it is annotated, and what each row made of it."""

    name: str
    panels: tuple[Panel, ...]


def write_pictures(pictures: Sequence[Picture], folder: Path) -> tuple[Path, ...]:
    """One PNG for each picture: its panels in a strip."""
    paths: list[Path] = []
    names: Counter[str] = Counter()  # the rows of two models may be worst on one image
    for picture in pictures:
        name = picture.name.replace("/", "-")
        names[name] += 1
        paths.append(folder / f"{name}{'' if names[name] == 1 else f'-{names[name]}'}.png")
        write_png(paths[-1], np.hstack([panel.image for panel in picture.panels]))
    return tuple(paths)


def read_pictures(folder: Path, report: Report) -> tuple[Picture, ...]:
    """Cut the strips that `write_pictures` wrote for this report into their panels again."""
    if not folder.is_dir():
        raise SegdeployError(
            f"{folder}: no such folder", hint="bench --report F.md writes F-pictures"
        )
    pictures = []
    for path in sorted(folder.glob("*.png")):
        strip = read_image(path)
        count, rest = divmod(strip.shape[1], PANEL_WIDTH)
        if rest or count < len(GIVEN):
            raise SegdeployError(
                f"{path}: is {strip.shape[1]} pixels wide; wanted panels of {PANEL_WIDTH}",
                hint="name the folder that bench wrote beside its report",
            )
        captions = (*GIVEN, *_rows_of(report, count - len(GIVEN)))
        parts = np.split(strip, count, axis=1)
        panels = tuple(Panel(*pair) for pair in zip(captions, parts, strict=True))
        pictures.append(Picture(path.stem, panels))
    return tuple(pictures)


def name_of(measurement: Measurement) -> str:
    """Of a row, below its panel."""
    return f"{measurement.name}, {measurement.runtime_name} {measurement.precision}"


def _rows_of(report: Report, count: int) -> tuple[str, ...]:
    """Which rows a strip of so many shows: all, or those with scores; else their numbers."""
    scored = [m for m in report.measurements if m.tally]
    for rows in (report.measurements, scored):
        if len(rows) == count:
            return tuple(map(name_of, rows))
    return tuple(f"row {number + 1}" for number in range(count))
