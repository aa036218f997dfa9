"""Data sets that are pairs of files: pairing, decoding and checking, for all in one place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import sha256_of
from segdeploy.datasets.sample import DatasetFacts, Sample
from segdeploy.errors import MissingDataError, SegdeployError
from segdeploy.images import list_images, read_image, read_labels
from segdeploy.spec import IGNORE, ClassSet, Image, Size

INVALID = -1
ValueTable = NDArray[np.int16]  # (256,): stored value to train id, IGNORE or INVALID


@dataclass(frozen=True)
class Pair:
    """An image and where its annotation must be."""

    id: str
    image: Path
    annotation: Path


@dataclass(frozen=True, eq=False)
class PairedFiles:
    """A data set of image files and annotation files; nothing is decoded before `load`."""

    name: str
    classes: ClassSet
    scale: tuple[int, int] | None
    nominal_size: Size
    pairs: tuple[Pair, ...]
    table: ValueTable

    def __post_init__(self) -> None:
        seen: dict[str, Path] = {}
        for pair in self.pairs:
            if pair.id in seen:
                raise SegdeployError(
                    f"{pair.image} and {seen[pair.id].name}: both are image {pair.id!r}",
                    hint="keep one of the two",
                )
            seen[pair.id] = pair.image

    @property
    def ids(self) -> tuple[str, ...]:
        """One name per image, in order."""
        return tuple(pair.id for pair in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def load_image(self, index: int) -> Image:
        """Decode an image; its annotation need not exist."""
        return read_image(self.pairs[index].image)

    def fingerprint(self, index: int) -> str:
        """Hexadecimal sha256 of an image file."""
        return sha256_of(self.pairs[index].image)

    def load(self, index: int) -> Sample:
        """Decode an image and its annotation; a damaged one is an error, never skipped."""
        pair = self.pairs[index]
        image = read_image(pair.image)
        if not pair.annotation.is_file():
            raise SegdeployError(
                f"{pair.annotation}: no such file; it is the annotation of {pair.image.name}",
                hint="the data set is incomplete: unpack its annotations again",
            )
        stored = read_labels(pair.annotation)
        if stored.shape != image.shape[:2]:
            raise SegdeployError(
                f"{pair.annotation}: is {Size(*stored.shape)}, its image {pair.image.name} is "
                f"{Size(*image.shape[:2])}"
            )
        present = np.flatnonzero(np.bincount(stored.ravel(), minlength=256))
        unknown = present[self.table[present] == INVALID]
        if unknown.size:
            raise SegdeployError(
                f"{pair.annotation}: holds the value {unknown[0]}, which is no class of "
                f"{self.name} ({len(self.classes)} classes)",
                hint="wanted one class id per pixel; is this another version of the data set?",
            )
        return Sample(pair.id, image, self.table.astype(np.uint8)[stored])


def value_table(meaning: Mapping[int, int]) -> ValueTable:
    """The table that maps stored values as `meaning` says; 255 is ignored, the rest invalid."""
    table = np.full(256, INVALID, np.int16)
    table[IGNORE] = IGNORE
    for stored, train_id in meaning.items():
        table[stored] = train_id
    return table


def pair_by_name(images: Iterable[Path], annotations: Path) -> tuple[Pair, ...]:
    """Pair each image with the PNG of the same stem; the stem is its id."""
    return tuple(Pair(path.stem, path, annotations / f"{path.stem}.png") for path in images)


def images_in(folder: Path, what: str, hint: str) -> list[Path]:
    """The images of a folder, sorted; a missing or empty folder is an error."""
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder; wanted {what}", hint=hint)
    images = list_images(folder)
    if not images:
        raise SegdeployError(f"{folder}: holds no image; wanted {what}", hint=hint)
    return images


def dataset_root(facts: DatasetFacts, data: Path | None) -> Path:
    """The folder of a data set: `data` itself, or one of the usual name below it."""
    if data is None:
        raise MissingDataError(f"{facts.name}: no data folder was named", hint=facts.source)
    if not data.is_dir():
        raise MissingDataError(
            f"{data}: no such folder; wanted the data of {facts.name}", hint=facts.source
        )
    below = (data / folder for folder in facts.folders)
    return next((folder for folder in below if folder.is_dir()), data)
