"""ADE20K, the scene-parsing challenge of 2016: photographs of any size, 150 classes."""

from pathlib import Path

from segdeploy.datasets.files import (
    PairedFiles,
    dataset_root,
    images_in,
    pair_by_name,
    value_table,
)
from segdeploy.datasets.sample import DatasetFacts
from segdeploy.recipes import MODELS, read_classes
from segdeploy.spec import IGNORE, Size

FACTS = DatasetFacts(
    name="ade20k",
    scale=(2048, 512),  # mmseg 1.2.2, configs/_base_/datasets/ade20k.py
    nominal_size=Size(512, 683),  # a 3:4 photograph at that scale
    evaluation_split="val",
    splits=("train", "val"),
    folders=("ADEChallengeData2016", "ade20k", "ade/ADEChallengeData2016"),
    source="get ADEChallengeData2016.zip from sceneparsing.csail.mit.edu, unpack it "
    "and name its folder with --data DIR",
    uniform=False,
)
FOLDERS = {"train": "training", "val": "validation"}


def open_ade20k(data: Path | None, split: str) -> PairedFiles:
    """Open a split; ids are like "ADE_val_00000001"."""
    FACTS.check_split(split)
    root = dataset_root(FACTS, data)
    images = images_in(root / "images" / FOLDERS[split], "ADE_*.jpg", FACTS.source)
    classes = read_classes(MODELS / "classes" / "ade20k.toml")
    # mmseg's reduce_zero_label: 0 is "other objects" and not scored, class k is stored as k + 1.
    stored = {0: IGNORE} | {k + 1: k for k in range(len(classes))}
    return PairedFiles(
        name=FACTS.name,
        classes=classes,
        scale=FACTS.scale,
        nominal_size=FACTS.nominal_size,
        pairs=pair_by_name(images, root / "annotations" / FOLDERS[split]),
        table=value_table(stored),
    )
