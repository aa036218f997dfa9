"""Trains a model of the zoo and writes a checkpoint as MMSegmentation lays it out."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import typer
from torch.nn import functional

from segdeploy.artifacts import writing
from segdeploy.datasets import Dataset, Sample, facts, open_dataset
from segdeploy.evaluate import evaluate
from segdeploy.images import resize
from segdeploy.nets.checkpoint import Checkpoint, build_network, read_checkpoint
from segdeploy.nets.segmentor import PixelsIn, Segmentor
from segdeploy.recipes import load_model
from segdeploy.spec import IGNORE, ClassSet, Image, LabelMap, ModelSpec, Output, Size

MAX_CLASS_WEIGHT = 2.5  # of a rare class, against 1 for the most frequent one
WARMUP = 50  # steps: AdamW's second moments are not known before
LOG_EVERY, CACHED = 25, 1000  # steps, and decoded images kept: 0.5 GB of the demo's


Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How long, how large and how fast to learn."""

    steps: int = 1200
    batch: int = 4
    crop: Size = field(default=Size(256, 512))  # smaller ones leave the wide dilations untrained
    scales: tuple[float, float] = (0.75, 1.25)  # of the image before it is cropped
    rate: float = 4e-3  # AdamW's, at its peak
    weight_decay: float = 1e-2
    norm_images: int = 64  # full images from which BatchNorm's statistics are taken at the end
    seed: int = 0


def augment(sample: Sample, options: TrainingOptions, rng: np.random.Generator) -> Sample:
    """Scale, crop (padding what is too small), flip and recolour at random."""
    image, labels, crop = sample.image, sample.labels, options.crop
    height, width = labels.shape
    scale = rng.uniform(*options.scales)
    size = Size(max(round(height * scale), 1), max(round(width * scale), 1))
    rows = (2 * np.arange(size.height) + 1) * height // (2 * size.height)
    columns = (2 * np.arange(size.width) + 1) * width // (2 * size.width)
    image, labels = resize(image, size), labels[rows[:, None], columns]
    below, beside = max(crop.height - size.height, 0), max(crop.width - size.width, 0)
    image = np.pad(image, ((0, below), (0, beside), (0, 0)))
    labels = np.pad(labels, ((0, below), (0, beside)), constant_values=IGNORE)
    top, left = rng.integers([side - cut + 1 for side, cut in zip(labels.shape, crop, strict=True)])
    window = slice(top, top + crop.height), slice(left, left + crop.width)
    coloured = image[window] * rng.uniform(0.85, 1.15, 3) + rng.uniform(-12, 12)
    image, labels = np.clip(coloured, 0, 255).astype(np.uint8), labels[window]
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return replace(sample, image=image, labels=labels)


def batches(dataset: Dataset, options: TrainingOptions) -> Iterator[Batch]:
    """Images (N, h, w, 3) uint8 and labels (N, h, w) int64, shuffled; one is made ahead."""
    rng = np.random.default_rng(options.seed)
    load = lru_cache(CACHED)(dataset.load)
    epochs = options.steps * options.batch // len(dataset) + 1
    order = np.concatenate([rng.permutation(len(dataset)) for _ in range(epochs)])

    def make(step: int) -> Batch:
        chosen = order[step * options.batch : (step + 1) * options.batch]
        samples = [augment(load(int(index)), options, rng) for index in chosen]
        images = np.stack([sample.image for sample in samples])
        labels = np.stack([sample.labels for sample in samples])
        return torch.from_numpy(images), torch.from_numpy(labels).long()

    with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
        coming = thread.submit(make, 0)
        for step in range(options.steps):
            batch = coming.result()
            if step + 1 < options.steps:
                coming = thread.submit(make, step + 1)
            yield batch


def class_weights(dataset: Dataset, images: int = 50) -> torch.Tensor:
    """(C,) float32: the inverse root of a class's frequency, at most `MAX_CLASS_WEIGHT`."""
    chosen = range(0, len(dataset), max(len(dataset) // images, 1))
    counts = sum(np.bincount(dataset.load(k).labels.ravel(), minlength=256) for k in chosen)
    found = np.maximum(np.asarray(counts, np.float64)[: len(dataset.classes)], 1)
    weights = np.minimum(np.sqrt(found.max() / found), MAX_CLASS_WEIGHT).astype(np.float32)
    return torch.from_numpy(weights)


def rate_at(step: int, options: TrainingOptions) -> float:
    """Linear warm-up, then mmseg's poly schedule with power 0.9."""
    return options.rate * min((step + 1) / WARMUP, 1) * math.pow(1 - step / options.steps, 0.9)


def train(network: Segmentor, spec: ModelSpec, dataset: Dataset, options: TrainingOptions) -> None:
    """Minimize the weighted cross-entropy, then take BatchNorm's statistics from full images."""
    pixels_in = PixelsIn(network, spec.normalization, Output.LOGITS).train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=options.weight_decay)
    weights, began, losses = class_weights(dataset), perf_counter(), []
    for step, (images, labels) in enumerate(batches(dataset, options)):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, options)
        logits = functional.interpolate(
            pixels_in(images), size=labels.shape[1:], mode="bilinear", align_corners=False
        )
        loss = functional.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORE)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % LOG_EVERY == 0:
            mean, seconds = np.mean(losses[-LOG_EVERY:]), perf_counter() - began
            typer.echo(f"step {step + 1}/{options.steps} loss {mean:.4f} {seconds:.0f} s")
    measure_norms(pixels_in, dataset, options.norm_images)


def measure_norms(network: PixelsIn, dataset: Dataset, images: int) -> None:
    """Replace the running statistics, which crops have biased, by the mean over full images."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over all batches
    batch = min(8, len(dataset))  # a pooled branch has one value per image: it needs several
    with torch.no_grad():
        for start in range(0, min(images, len(dataset)) - batch + 1, batch):
            chosen = (dataset.load_image(index) for index in range(start, start + batch))
            full = np.stack([resize(image, dataset.nominal_size) for image in chosen])
            network(torch.from_numpy(full))


def save_checkpoint(network: Segmentor, classes: ClassSet, path: Path) -> None:
    """Write weights, class names and palette as mmcv does."""
    meta = {"CLASSES": classes.names, "PALETTE": [list(rgb) for rgb in classes.palette]}
    with writing(path) as temporary:
        torch.save({"meta": meta, "state_dict": network.state_dict()}, temporary)


def starting_network(spec: ModelSpec, classes: ClassSet, init: Checkpoint | None) -> Segmentor:
    """Fresh weights, or those of a checkpoint; the last layer only where it fits."""
    width, channels = spec.width, spec.head_channels
    network = Segmentor(spec.method, len(classes), width=width, head_channels=channels)
    if init is None:
        return network
    fresh, last = network.state_dict(), "decode_head.conv_seg."
    renewed = last if init.class_count != len(classes) else ()
    state = init.state | {k: v for k, v in fresh.items() if k.startswith(renewed)}
    fitting = replace(init, state=state, classes=classes)
    return build_network(replace(spec, classes=classes), fitting)[0]


def main(
    model: Annotated[str, typer.Argument(help="a model of models/, a TOML file, or a method")],
    out: Annotated[Path, typer.Option(help="the checkpoint to write")],
    dataset: Annotated[str, typer.Option(help="demo or camvid")] = "demo",
    data: Annotated[Path | None, typer.Option(help="folder of the data set")] = None,
    init: Annotated[Path | None, typer.Option(help="checkpoint to start from")] = None,
    steps: int = TrainingOptions.steps,
    batch: int = TrainingOptions.batch,
    crop: Annotated[str, typer.Option(help="HEIGHTxWIDTH")] = str(TrainingOptions.crop),
    rate: float = TrainingOptions.rate,
    seed: int = TrainingOptions.seed,
    threads: Annotated[int, typer.Option(help="of PyTorch")] = 1,
) -> None:
    """Train on the split `train`, save, and print the mIoU on the data set's evaluation split."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    spec, learned = load_model(model), open_dataset(dataset, data, "train")
    network = starting_network(spec, learned.classes, read_checkpoint(init) if init else None)
    options = TrainingOptions(steps=steps, batch=batch, crop=Size.parse(crop), rate=rate, seed=seed)
    train(network, spec, learned, options)
    save_checkpoint(network.eval(), learned.classes, out)
    saved = starting_network(spec, learned.classes, read_checkpoint(out))
    pixels_in = PixelsIn(saved, spec.normalization, Output.LABELS).eval()

    def predict(image: Image) -> LabelMap:
        with torch.inference_mode():
            return np.asarray(pixels_in(torch.from_numpy(image[None]))[0].numpy(), np.uint8)

    held_out = open_dataset(dataset, data, facts(dataset).evaluation_split)
    matrix = evaluate(predict, held_out)
    for name, iou in zip(learned.classes.names, matrix.iou(), strict=True):
        typer.echo(f"{name:>12} {100 * iou:6.2f}")
    typer.echo(f"{'mIoU':>12} {100 * matrix.miou():6.2f} on {len(held_out)} images, {out}")


if __name__ == "__main__":
    typer.run(main)
