"""The pictures of a report: the images on which the first scored row is worst."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from segdeploy.datasets import Dataset
from segdeploy.html.pictures import GIVEN, PANEL_WIDTH, Panel, Picture, name_of
from segdeploy.images import overlay, resize
from segdeploy.metrics import ConfusionMatrix
from segdeploy.report import Report
from segdeploy.spec import LabelMap, Size

PICTURES = 3  # images of the data set that a report shows


@dataclass
class Worst:
    """Sees the counts of one image after the other, and tells which had the lowest mIoU."""

    scores: dict[int, float] = field(default_factory=dict)

    def __call__(self, index: int, matrix: ConfusionMatrix) -> None:
        """See one image; one without a single labelled pixel is never among the worst."""
        miou = matrix.miou()
        self.scores[index] = math.inf if math.isnan(miou) else miou

    def shown(self, dataset: Dataset) -> tuple[int, ...]:
        """The worst first; where nothing was scored, the first of the data set."""
        order = sorted(self.scores, key=lambda index: (self.scores[index], index))
        return tuple(order or range(len(dataset)))[:PICTURES]


def paint(
    maps: Sequence[Mapping[int, LabelMap]], dataset: Dataset, report: Report
) -> tuple[Picture, ...]:
    """One picture per image: the image, the ground truth, and what each measured row made of it.

    Args:
        maps: of each row of the report, label maps by the number of their image, or none.
        dataset: that the numbers are of.
        report: names the rows.
    """
    rows = [own for own in maps if own]
    names = [name_of(m) for m, own in zip(report.measurements, maps, strict=True) if own]
    captions = (*GIVEN, *names)
    pictures = []
    for index in rows[0] if rows else ():
        sample = dataset.load(index)
        height, width = sample.labels.shape
        panel = Size(max(1, height * PANEL_WIDTH // width), PANEL_WIDTH)
        labels = [sample.labels, *(own[index] for own in rows)]
        painted = [overlay(sample.image, one, dataset.classes) for one in labels]
        images = [resize(image, panel) for image in (sample.image, *painted)]
        panels = tuple(Panel(*pair) for pair in zip(captions, images, strict=True))
        pictures.append(Picture(sample.id, panels))
    return tuple(pictures)
