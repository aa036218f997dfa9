"""Cityscapes in its official layout: 1024x2048 street scenes, 19 classes."""

from pathlib import Path

from segdeploy.datasets.files import (
    Pair,
    PairedFiles,
    ValueTable,
    dataset_root,
    images_in,
    value_table,
)
from segdeploy.datasets.sample import DatasetFacts
from segdeploy.errors import MissingDataError, SegdeployError
from segdeploy.recipes import MODELS, read_classes
from segdeploy.spec import IGNORE, Size

FACTS = DatasetFacts(
    name="cityscapes",
    scale=(2048, 1024),  # mmseg 1.2.2, configs/_base_/datasets/cityscapes.py
    nominal_size=Size(1024, 2048),
    evaluation_split="val",
    splits=("train", "val"),
    folders=("cityscapes",),
    source="get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from "
    "www.cityscapes-dataset.com (registration), unpack both into one folder "
    "and name it with --data DIR",
)

# Index = train id, value = label id (cityscapesScripts, helpers/labels.py); the other label ids
# of 0..33 are not scored.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TRAIN_ID_SUFFIX, LABEL_ID_SUFFIX = "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"
IMAGE_SUFFIX = "_leftImg8bit.png"


def open_cityscapes(data: Path | None, split: str) -> PairedFiles:
    """Open a split; ids are like "frankfurt/frankfurt_000000_000294"."""
    FACTS.check_split(split)
    root = dataset_root(FACTS, data)
    images, annotations = root / "leftImg8bit" / split, root / "gtFine" / split
    if not images.is_dir():
        raise MissingDataError(
            f"{images}: no such folder; wanted one folder per city there", hint=FACTS.source
        )
    cities = sorted(path for path in images.iterdir() if path.is_dir())
    files = [path for city in cities for path in images_in(city, f"*{IMAGE_SUFFIX}", FACTS.source)]
    if not files:
        raise SegdeployError(f"{images}: holds no folder of a city", hint=FACTS.source)
    stems = [_stem(path) for path in files]
    # Converted files, if there are any; both kinds hold the same truth, one serves a whole split.
    converted = (annotations / f"{stems[0]}{TRAIN_ID_SUFFIX}").is_file()
    suffix = TRAIN_ID_SUFFIX if converted else LABEL_ID_SUFFIX
    return PairedFiles(
        name=FACTS.name,
        classes=read_classes(MODELS / "classes" / "cityscapes.toml"),
        scale=FACTS.scale,
        nominal_size=FACTS.nominal_size,
        pairs=tuple(
            Pair(stem, path, annotations / f"{stem}{suffix}")
            for stem, path in zip(stems, files, strict=True)
        ),
        table=_train_ids() if converted else _label_ids(),
    )


def _stem(path: Path) -> str:
    if not path.name.endswith(IMAGE_SUFFIX):
        raise SegdeployError(f"{path}: wanted a name ending in {IMAGE_SUFFIX}", hint=FACTS.source)
    return f"{path.parent.name}/{path.name.removesuffix(IMAGE_SUFFIX)}"


def _train_ids() -> ValueTable:
    return value_table({train_id: train_id for train_id in range(len(LABEL_IDS))})


def _label_ids() -> ValueTable:
    unscored = dict.fromkeys(range(34), IGNORE)
    return value_table(unscored | {label_id: k for k, label_id in enumerate(LABEL_IDS)})
