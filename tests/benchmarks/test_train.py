from dataclasses import dataclass

import numpy as np
import pytest
import torch
import train

from segdeploy.datasets import Sample, open_dataset
from segdeploy.datasets.scenes import draw_scene
from segdeploy.nets.checkpoint import build_network, read_checkpoint
from segdeploy.recipes import load_model
from segdeploy.spec import IGNORE, ClassSet, Image, Size


def test_augmented_labels_stay_on_their_pixels():
    labels = np.kron(np.array([[0, 1], [2, 3]], np.uint8), np.ones((40, 60), np.uint8))
    image = np.repeat(labels[..., None] * 60 + 20, 3, axis=2)
    options = train.TrainingOptions(crop=Size(50, 70), scales=(1.0, 1.0))

    made = train.augment(Sample("x", image, labels), options, np.random.default_rng(0))

    assert made.image.shape == (50, 70, 3)
    levels = [np.unique(made.image[made.labels == k], axis=0) for k in np.unique(made.labels)]
    assert all(len(level) == 1 for level in levels)


def test_what_is_padded_is_not_learned():
    image, labels = draw_scene(1, Size(40, 50))
    options = train.TrainingOptions(crop=Size(100, 100), scales=(1.0, 1.0))

    made = train.augment(Sample("x", image, labels), options, np.random.default_rng(0))

    assert np.mean(made.labels == IGNORE) >= 1 - 40 * 50 / 100**2


def test_batches_are_the_same_for_the_same_seed():
    dataset = open_dataset("demo", None, "train")
    options = train.TrainingOptions(steps=2, batch=2, crop=Size(32, 48), seed=3)

    first, second = list(train.batches(dataset, options)), list(train.batches(dataset, options))

    assert len(first) == 2
    assert all(
        torch.equal(a, b)
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_the_rate_rises_then_falls_to_nothing():
    options = train.TrainingOptions(steps=500)

    rates = [train.rate_at(step, options) for step in range(500)]

    assert rates.index(max(rates)) == train.WARMUP - 1
    assert rates[-1] < 0.01 * max(rates)


def test_a_saved_checkpoint_is_read_like_an_official_one(tmp_path):
    spec = load_model("demo")
    network = train.starting_network(spec, spec.classes, None)

    train.save_checkpoint(network, spec.classes, tmp_path / "demo.pth")

    checkpoint = read_checkpoint(tmp_path / "demo.pth")
    assert checkpoint.classes == spec.classes
    read, _ = build_network(spec, checkpoint)
    assert all(
        torch.equal(a, b) for a, b in zip(network.parameters(), read.parameters(), strict=True)
    )


def test_fine_tuning_for_other_classes_renews_the_last_layer_only(tmp_path):
    spec, fewer = load_model("demo"), ClassSet.numbered(5)
    network = train.starting_network(spec, spec.classes, None)
    train.save_checkpoint(network, spec.classes, tmp_path / "demo.pth")

    tuned = train.starting_network(spec, fewer, read_checkpoint(tmp_path / "demo.pth"))

    assert tuned.decode_head.conv_seg.out_channels == 5
    assert torch.equal(tuned.backbone.conv1.conv.weight, network.backbone.conv1.conv.weight)


@dataclass(frozen=True)
class TinyScenes:
    name: str = "tiny"
    scale: None = None
    nominal_size: Size = Size(32, 64)  # noqa: RUF009
    classes: ClassSet = load_model("demo").classes
    ids: tuple[str, ...] = tuple("abcdefgh")

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, index: int) -> Sample:
        return Sample(self.ids[index], *draw_scene(index, self.nominal_size))

    def load_image(self, index: int) -> Image:
        return self.load(index).image


@pytest.mark.slow
def test_training_changes_the_weights_and_takes_statistics_of_full_images():
    torch.manual_seed(0)
    spec, dataset = load_model("demo"), TinyScenes()
    network = train.starting_network(spec, spec.classes, None)
    before = network.decode_head.conv_seg.weight.detach().clone()
    options = train.TrainingOptions(steps=3, batch=2, crop=Size(32, 32))

    train.train(network, spec, dataset, options)

    assert not torch.equal(before, network.decode_head.conv_seg.weight)
    assert network.backbone.conv1.bn.num_batches_tracked == 1  # eight images are one batch
