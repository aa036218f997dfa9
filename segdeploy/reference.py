"""What a measured row says beside the published one: reached, missed, or not to be compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from segdeploy.measurement import Boundary, Measurement
from segdeploy.recipes import Target

# Images of the split that the published scores are of: with fewer nothing is judged.
SPLIT_IMAGES = {"cityscapes": 500, "ade20k": 2000}  # cityscapesScripts; sceneparsing
PUBLISHED_DIGITS = 2  # of an mIoU in the table
ONE_PASS = "whole"  # the mode whose fps were published
DEVICE_NOTE = (
    "The published fps were taken on a V100 with PyTorch in 2020. To reach them says that this "
    "machine with this engine is as fast; it says nothing of the software alone."
)


@dataclass(frozen=True, kw_only=True)
class Against:
    """One measured row beside the published one.

    Args:
        miou_change: points above the published mIoU; None: not to be compared.
        times: the published fps; None: not to be compared.
        reasons: why something cannot be compared.
    """

    miou_change: float | None
    times: float | None
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One word or two, of what could be compared."""
        told = [
            reached
            for value, reached in ((self.miou_change, self.has_miou), (self.times, self.has_fps))
            if value is not None
        ]
        if not told:
            return "not comparable"
        return "reached" if all(told) else "partly reached" if any(told) else "not reached"

    @property
    def has_miou(self) -> bool:
        """Whether the published mIoU is reached, at the digits that were published."""
        return self.miou_change is not None and round(self.miou_change, PUBLISHED_DIGITS) >= 0

    @property
    def has_fps(self) -> bool:
        """Whether the published fps are reached."""
        return self.times is not None and self.times >= 1

    @property
    def sentence(self) -> str:
        """The same in words."""
        said = []
        if self.miou_change is not None:
            change = f"{abs(self.miou_change):.{PUBLISHED_DIGITS}f}"
            said.append(
                f"mIoU {change} points {'above' if self.has_miou else 'below'} the published"
            )
        if self.times is not None:
            said.append(f"{self.times:.2f} times the published fps")
        return "; ".join([*said, *self.reasons])


def against(measurement: Measurement, target: Target) -> Against:
    """Set the boundary that the table timed beside it; another size or batch is not compared."""
    here = measurement.resolution.partition(",")[0]  # without the mode
    reasons = []
    if here not in target.resolution.replace("about ", "").split(", "):
        reasons.append(f"{here} here, {target.resolution} there")
    if measurement.batch != 1:
        reasons.append(f"batch {measurement.batch} here, 1 there")
    is_same = not reasons and Boundary.MMSEG in measurement.boundaries
    miou_change = None
    if measurement.miou is None or target.miou is None:
        reasons.append("mIoU was not measured")
    elif measurement.images < (whole := SPLIT_IMAGES.get(measurement.dataset, 0)):
        reasons.append(f"mIoU over {measurement.images} of {whole} images")
    elif is_same:
        miou_change = measurement.miou - target.miou
    times = measurement.fps / target.fps if is_same else None
    if measurement.mode != ONE_PASS:
        reasons.append("the published fps are those of one pass")
        times = None
    return Against(miou_change=miou_change, times=times, reasons=tuple(reasons))


def footnotes(targets: Iterable[Target]) -> tuple[str, ...]:
    """What is odd about published rows, each once."""
    notes = (note for target in targets for note in notes_of(target))
    return tuple(dict.fromkeys(notes))


def marks(target: Target, notes: Sequence[str]) -> str:
    """Where the oddities of one published row stand among the footnotes: "1, 3"."""
    return ", ".join(str(notes.index(note) + 1) for note in notes_of(target))


def notes_of(target: Target) -> tuple[str, ...]:
    """What is odd about one published row."""
    return (*filter(None, target.note.split("; ")), DEVICE_NOTE)
