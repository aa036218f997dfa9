"""Which images an INT8 graph is calibrated on, and that none of them is scored."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import Manifest, sha256_of
from segdeploy.datasets import Dataset, indices_of, open_dataset
from segdeploy.errors import SegdeployError
from segdeploy.images import list_images, network_input, read_image, resize
from segdeploy.recipes import CalibrationSet, calibration_names, load_calibration
from segdeploy.spec import Image, Size

FOLDER = "folder:"


@dataclass(frozen=True)
class CalibrationImages:
    """Images to collect ranges on, and how to read a range off them."""

    recipe: CalibrationSet
    split: str  # "dataset/split", or "folder:NAME"
    ids: tuple[str, ...]
    content: str  # hash of names and bytes: part of what determines an int8 graph
    load: Callable[[], Iterator[Image]]  # decoded and resized as at test time, one at a time

    @property
    def summary(self) -> str:
        """For manifests and reports."""
        return f"{self.recipe.name}: {len(self.ids)} images of {self.split}, {self.recipe.method}"


def open_calibration(name_or_folder: str, data: Path) -> CalibrationImages:
    """Open a calibration set by name, by its TOML, or a folder of images.

    Args:
        name_or_folder: as `--calibration` takes it.
        data: where the data sets are.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return _from_folder(folder)
    return _from_recipe(load_calibration(name_or_folder), data)


def default_calibration(dataset: str | None) -> str:
    """The calibration set that is drawn from a data set."""
    for name in calibration_names():
        if load_calibration(name).dataset == dataset:
            return name
    raise SegdeployError(
        "int8 needs images to calibrate on, and the model names no data set",
        hint="--calibration NAME or --calibration FOLDER with some images of its training data",
    )


def graph_batch(manifest: Manifest, image: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) at the graph's own size and batch; a static batch repeats the image."""
    fitted = resize(image, manifest.size or Size(*image.shape[:2]))
    return np.repeat(fitted[None], manifest.batch or 1, axis=0)


def _from_recipe(recipe: CalibrationSet, data: Path) -> CalibrationImages:
    dataset = open_dataset(recipe.dataset, data, recipe.split)
    ids = recipe.draw(dataset.ids)
    indices = indices_of(dataset, ids)
    return CalibrationImages(
        recipe=recipe,
        split=f"{recipe.dataset}/{recipe.split}",
        ids=ids,
        content=_hash([*ids, *map(dataset.fingerprint, indices)]),
        load=lambda: (network_input(dataset.load_image(index), dataset.scale) for index in indices),
    )


def _from_folder(folder: Path) -> CalibrationImages:
    files = list_images(folder)
    if not files:
        raise SegdeployError(f"{folder}: holds no image to calibrate on")
    name = folder.resolve().name
    return CalibrationImages(
        recipe=CalibrationSet(name=name, dataset="", split="", method="mse"),
        split=f"{FOLDER}{name}",
        ids=tuple(path.stem for path in files),
        content=_hash(map(sha256_of, files)),
        load=lambda: (read_image(path) for path in files),
    )


def check_unseen(
    calibration_split: str, calibration_ids: Iterable[str], dataset: Dataset, split: str
) -> None:
    """Refuse to score images that ranges were collected on: the split's, or of the same names."""
    if calibration_split == f"{dataset.name}/{split}":
        raise SegdeployError(
            f"int8 was calibrated on {calibration_split}, the split that would be scored",
            hint="calibrate on training images",
        )
    scored = {id.rpartition("/")[2] for id in dataset.ids}
    seen = scored & {id.rpartition("/")[2] for id in calibration_ids}
    if seen:
        raise SegdeployError(
            f"{len(seen)} calibration images are among those to score, such as {min(seen)}",
            hint="calibrate on training images",
        )


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
