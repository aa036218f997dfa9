"""Drawn street scenes: a data set that is there without a download."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from segdeploy.datasets.sample import DatasetFacts, Sample
from segdeploy.datasets.scenes import draw_scene, drawn_by, scene_seed
from segdeploy.recipes import MODELS, read_classes
from segdeploy.spec import ClassSet, Image, Size

FACTS = DatasetFacts(
    name="demo",
    scale=None,
    nominal_size=Size(256, 512),
    evaluation_split="val",
    splits=("train", "val"),
    source="it is drawn: no files are needed",
)
IMAGES = {"train": 1000, "val": 100}


@dataclass(frozen=True)
class DrawnScenes:
    """A split of drawn scenes: each is made when it is loaded, the same on every machine."""

    split: str
    classes: ClassSet
    name: str = FACTS.name
    scale: tuple[int, int] | None = FACTS.scale
    nominal_size: Size = field(default=FACTS.nominal_size)

    @property
    def ids(self) -> tuple[str, ...]:
        """For example "val-000000"."""
        return tuple(f"{self.split}-{index:06d}" for index in range(len(self)))

    def __len__(self) -> int:
        return IMAGES[self.split]

    def load(self, index: int) -> Sample:
        """Draw a scene and its labels."""
        sample_id = self.ids[index]
        image, labels = draw_scene(
            scene_seed(self.split, range(len(self))[index]), self.nominal_size
        )
        return Sample(sample_id, image, labels)

    def load_image(self, index: int) -> Image:
        """Draw a scene."""
        return self.load(index).image

    def fingerprint(self, index: int) -> str:
        """Hexadecimal sha256 of all that decides about an image; drawing it would take 15 ms."""
        facts = (self.ids[index], self.nominal_size, drawn_by())
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def open_demo(_data: Path | None, split: str) -> DrawnScenes:
    """Open a split; no data folder is needed."""
    FACTS.check_split(split)
    return DrawnScenes(split, read_classes(MODELS / "classes" / "demo.toml"))
