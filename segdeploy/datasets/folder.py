"""A data set of your own: images/, labels/ and classes.toml in one folder."""

from pathlib import Path

from segdeploy.datasets.files import PairedFiles, images_in, pair_by_name, value_table
from segdeploy.errors import SegdeployError
from segdeploy.images import read_image
from segdeploy.recipes import read_classes
from segdeploy.spec import Size

LAYOUT = (
    "wanted FOLDER/classes.toml, FOLDER/images/NAME.png and FOLDER/labels/NAME.png (class ids, "
    "255 is not scored), or the same below images/SPLIT/ and labels/SPLIT/"
)


def open_folder(root: Path, split: str) -> PairedFiles:
    """Open images/SPLIT and labels/SPLIT, or images and labels where there are no splits.

    Images keep their size; ids are the file names without suffix.
    """
    images, labels = root / "images", root / "labels"
    for folder in (images, labels):
        if not folder.is_dir():
            raise SegdeployError(f"{folder}: no such folder", hint=LAYOUT)
    splits = sorted(path.name for path in images.iterdir() if path.is_dir())
    if splits:
        if split not in splits:
            raise SegdeployError(
                f"{images}: has no split {split!r}", hint=f"wanted one of {', '.join(splits)}"
            )
        images, labels = images / split, labels / split
    classes = read_classes(root / "classes.toml")
    files = images_in(images, "image files", LAYOUT)
    return PairedFiles(
        name=root.resolve().name,
        classes=classes,
        scale=None,
        nominal_size=Size(*read_image(files[0]).shape[:2]),
        pairs=pair_by_name(files, labels),
        table=value_table({k: k for k in range(len(classes))}),
    )
