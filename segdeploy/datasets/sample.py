"""What a data set is to the rest of the package."""

from dataclasses import dataclass
from typing import Protocol

from segdeploy.errors import SegdeployError
from segdeploy.spec import ClassSet, Image, LabelMap, Size


@dataclass(frozen=True, eq=False)
class Sample:
    """One annotated image, both at its original size; 255 in `labels` is not scored."""

    id: str
    image: Image
    labels: LabelMap


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set without its files.

    Args:
        name: as `--dataset` spells it.
        scale: (long side, short side) of the test protocol's resize; None keeps the original size.
        nominal_size: of the network's input for a typical image; what speed is measured at.
        uniform: whether every image has the nominal size, so that a graph of one size serves all.
        evaluation_split: the split that published scores are of.
        splits: the splits there are.
        folders: where it lies below the data folder: the usual names, best first.
        source: where to get it.
    """

    name: str
    scale: tuple[int, int] | None
    nominal_size: Size
    evaluation_split: str
    splits: tuple[str, ...]
    folders: tuple[str, ...] = ()
    source: str = ""
    uniform: bool = True

    def check_split(self, split: str) -> None:
        """Refuse a split that this data set does not have."""
        if split not in self.splits:
            raise SegdeployError(
                f"{self.name} has no split {split!r}",
                hint=f"wanted one of {', '.join(self.splits)}",
            )


class Dataset(Protocol):
    """A split of a data set: a fixed order of annotated images."""

    @property
    def name(self) -> str:
        """For tables and manifests."""

    @property
    def classes(self) -> ClassSet:
        """Names and colours of the label values."""

    @property
    def scale(self) -> tuple[int, int] | None:
        """(long side, short side) of the test protocol's resize; None keeps the original size."""

    @property
    def nominal_size(self) -> Size:
        """Size of the network's input for a typical image."""

    @property
    def ids(self) -> tuple[str, ...]:
        """One name per image, stable across machines."""

    def __len__(self) -> int:
        """The number of images."""

    def load(self, index: int) -> Sample:
        """Decode an image and its annotation."""

    def load_image(self, index: int) -> Image:
        """Decode an image; its annotation need not exist."""

    def fingerprint(self, index: int) -> str:
        """Hexadecimal sha256 of an image's content: another image, another fingerprint."""


def indices_of(dataset: Dataset, ids: tuple[str, ...]) -> list[int]:
    """Where the images of these ids are; ids come from files and are only ever looked up."""
    index_of = {known: index for index, known in enumerate(dataset.ids)}
    for wanted in ids:
        if wanted not in index_of:
            raise SegdeployError(
                f"{dataset.name} has no image {wanted!r} in this split ({len(dataset)} images)",
                hint=f"ids look like {dataset.ids[0]!r}",
            )
    return [index_of[wanted] for wanted in ids]
