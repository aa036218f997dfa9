"""Data sets and their test protocols."""

from collections.abc import Callable
from pathlib import Path

from segdeploy.datasets import ade20k, camvid, cityscapes, demo
from segdeploy.datasets.folder import open_folder
from segdeploy.datasets.sample import Dataset, DatasetFacts, Sample, indices_of
from segdeploy.errors import SegdeployError

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetFacts",
    "Sample",
    "facts",
    "find_facts",
    "indices_of",
    "open_dataset",
]

Opener = Callable[[Path | None, str], Dataset]  # data folder and split

DATASETS: dict[str, tuple[DatasetFacts, Opener]] = {
    "cityscapes": (cityscapes.FACTS, cityscapes.open_cityscapes),
    "ade20k": (ade20k.FACTS, ade20k.open_ade20k),
    "camvid": (camvid.FACTS, camvid.open_camvid),
    "demo": (demo.FACTS, demo.open_demo),
}


def open_dataset(name_or_folder: str, data: Path | None, split: str) -> Dataset:
    """Open a split of a known data set, or of a folder with images/, labels/ and classes.toml.

    Args:
        name_or_folder: a key of `DATASETS`, or the path of a folder.
        data: the folder of the data set, or one that contains it; drawn scenes need none.
        split: such as "val".
    """
    if name_or_folder in DATASETS:
        _, opener = DATASETS[name_or_folder]
        return opener(data, split)
    if Path(name_or_folder).is_dir():
        return open_folder(Path(name_or_folder), split)
    raise _unknown(name_or_folder)


def facts(name: str) -> DatasetFacts:
    """What is known of a data set without its files."""
    if name not in DATASETS:
        raise _unknown(name)
    return DATASETS[name][0]


def find_facts(name: str | None) -> DatasetFacts | None:
    """The same, or None for a folder of one's own and for a model that names no data set."""
    return DATASETS[name][0] if name in DATASETS else None


def _unknown(name: str) -> SegdeployError:
    return SegdeployError(
        f"{name!r} is neither a data set nor a folder",
        hint=f"one of {', '.join(DATASETS)}, or a folder with images/, labels/ and classes.toml",
    )
