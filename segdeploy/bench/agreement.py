"""Whose labels a row returns: the label maps of fp32 rows are kept on disk for those that follow.

Each row runs in a process of its own, and a data set of label maps does not fit in memory. They
compress well: a drawn scene of 1024x2048 takes 21 kB as PNG.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segdeploy.images import read_labels, write_png
from segdeploy.measurement import Agreement
from segdeploy.spec import LabelMap, Precision, Runtime

Row = tuple[Runtime, Precision]


@dataclass
class LabelWatch:
    """Compares the label maps of one row with kept ones, and keeps its own if it is fp32.

    Args:
        folder: of one checkpoint, in which each row that is kept has a folder.
        row: the runtime and precision whose label maps are seen.
    """

    folder: Path
    row: Row
    equal: dict[Row, int] = field(default_factory=dict)
    pixels: int = 0

    def __post_init__(self) -> None:
        runtime, precision = self.row
        of_interest = [(Runtime.PYTORCH, Precision.FP32), (runtime, Precision.FP32)]
        others = [row for row in dict.fromkeys(of_interest) if row != self.row]
        self.equal = {row: 0 for row in others if self._place(row).is_dir()}
        self._keeps = precision is Precision.FP32 and not self._place(self.row).is_dir()

    def __call__(self, index: int, labels: LabelMap) -> None:
        """See the label map of one image."""
        for row in self.equal:
            kept = read_labels(self._place(row) / f"{index}.png")
            self.equal[row] += int(np.count_nonzero(kept == labels))
        self.pixels += labels.size
        if self._keeps:
            write_png(self._place(self.row) / f"{index}.png", labels)

    def agreement(self) -> tuple[Agreement, ...]:
        """With each row that was kept, over all images seen."""
        return tuple(
            Agreement(runtime=runtime, precision=precision, pixels=self.pixels, equal_pixels=equal)
            for (runtime, precision), equal in self.equal.items()
        )

    def _place(self, row: Row) -> Path:
        return self.folder / "-".join(row)
