"""Trains a model of the zoo from scratch and writes a checkpoint as MMSegmentation lays it out.

Made for the demo model, and for a first checkpoint of a data set that has none to download.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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

MAX_CLASS_WEIGHT = 4.0  # of a rare class, against 1 for the most frequent one
WARMUP = 50  # steps: AdamW's second moments are not known before
LOG_EVERY = 25  # steps
CACHED = 1000  # decoded images kept: 0.5 GB of the demo's
CROP = Size(160, 224)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How long, how large and how fast to learn."""

    steps: int = 900
    batch: int = 8
    crop: Size = CROP
    scales: tuple[float, float] = (0.75, 1.25)  # of the image before it is cropped
    rate: float = 4e-3  # AdamW's, at its peak
    weight_decay: float = 1e-2
    norm_images: int = 64  # full images from which BatchNorm's statistics are taken at the end
    seed: int = 0


Batch = tuple[torch.Tensor, torch.Tensor]  # (N, h, w, 3) uint8 RGB, (N, h, w) int64


def augment(sample: Sample, options: TrainingOptions, rng: np.random.Generator) -> Sample:
    """Scale, crop (padding what is too small), flip and recolour at random."""
    image, labels, crop = sample.image, sample.labels, options.crop
    scale = rng.uniform(*options.scales)
    size = Size(*(max(round(side * scale), 1) for side in labels.shape))
    rows = (np.arange(size.height) * labels.shape[0]) // size.height
    columns = (np.arange(size.width) * labels.shape[1]) // size.width
    image, labels = resize(image, size), labels[rows[:, None], columns]
    below, beside = max(crop.height - size.height, 0), max(crop.width - size.width, 0)
    image = np.pad(image, ((0, below), (0, beside), (0, 0)))
    labels = np.pad(labels, ((0, below), (0, beside)), constant_values=IGNORE)
    top = int(rng.integers(labels.shape[0] - crop.height + 1))
    left = int(rng.integers(labels.shape[1] - crop.width + 1))
    window = slice(top, top + crop.height), slice(left, left + crop.width)
    image, labels = image[window], labels[window]
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    gain, offset = rng.uniform(0.85, 1.15, 3), rng.uniform(-12, 12)
    image = np.clip(image * gain + offset, 0, 255).astype(np.uint8)
    return replace(sample, image=image, labels=np.ascontiguousarray(labels))


def batches(dataset: Dataset, options: TrainingOptions) -> Iterator[Batch]:
    """Shuffled batches, made one ahead in a thread."""
    rng = np.random.default_rng(options.seed)
    load = lru_cache(CACHED)(dataset.load)
    order = np.concatenate(
        [
            rng.permutation(len(dataset))
            for _ in range(options.steps * options.batch // len(dataset) + 1)
        ]
    )

    def make(step: int) -> Batch:
        chosen = order[step * options.batch : (step + 1) * options.batch]
        samples = [augment(load(int(index)), options, rng) for index in chosen]
        images = torch.from_numpy(np.stack([sample.image for sample in samples]))
        labels = torch.from_numpy(np.stack([sample.labels for sample in samples]))
        return images, labels.long()

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
    weights = np.minimum(np.sqrt(found.max() / found), MAX_CLASS_WEIGHT)
    return torch.from_numpy(weights.astype(np.float32))


def rate_at(step: int, options: TrainingOptions) -> float:
    """Linear warm-up, then mmseg's poly schedule with power 0.9."""
    warm = min((step + 1) / WARMUP, 1)
    return float(options.rate * warm * (1 - step / options.steps) ** 0.9)


def train(network: Segmentor, spec: ModelSpec, dataset: Dataset, options: TrainingOptions) -> None:
    """Minimize the weighted cross-entropy, then take BatchNorm's statistics from full images."""
    pixels_in = PixelsIn(network, spec.normalization, Output.LOGITS).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=options.rate, weight_decay=options.weight_decay
    )
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
            mean = np.mean(losses[-LOG_EVERY:])
            typer.echo(
                f"step {step + 1}/{options.steps} loss {mean:.4f} {perf_counter() - began:.0f} s"
            )
    measure_norms(pixels_in, dataset, options.norm_images)


def measure_norms(network: PixelsIn, dataset: Dataset, images: int) -> None:
    """Replace the running statistics, which crops have biased, by the mean over full images."""
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    with torch.no_grad():
        for start in range(
            0, min(images, len(dataset)) - 7, 8
        ):  # pooled branches need several images
            full = [resize(dataset.load_image(start + k), dataset.nominal_size) for k in range(8)]
            network(torch.from_numpy(np.stack(full)))


def predict_labels(network: PixelsIn, image: Image) -> LabelMap:
    """Labels (H, W) of one image."""
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(image[None]))[0].numpy(), np.uint8)


def save_checkpoint(network: Segmentor, classes: ClassSet, path: Path) -> None:
    """Write weights, class names and palette as mmcv does."""
    meta = {"CLASSES": classes.names, "PALETTE": [list(rgb) for rgb in classes.palette]}
    with writing(path) as temporary:
        torch.save({"meta": meta, "state_dict": network.state_dict()}, temporary)


def starting_network(spec: ModelSpec, classes: ClassSet, init: Checkpoint | None) -> Segmentor:
    """Fresh weights, or those of a checkpoint; the last layer only where it fits."""
    network = Segmentor(
        spec.method, len(classes), width=spec.width, head_channels=spec.head_channels
    )
    if init is None:
        return network
    state = dict(init.state)
    if init.class_count != len(classes):
        last = "decode_head.conv_seg."
        state |= {k: v for k, v in network.state_dict().items() if k.startswith(last)}
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
    held_out = open_dataset(dataset, data, facts(dataset).evaluation_split)
    saved, _ = build_network(replace(spec, classes=learned.classes), read_checkpoint(out))
    pixels_in = PixelsIn(saved, spec.normalization, Output.LABELS).eval()
    matrix = evaluate(lambda image: predict_labels(pixels_in, image), held_out)
    for name, iou in zip(learned.classes.names, matrix.iou(), strict=True):
        typer.echo(f"{name:>12} {100 * iou:6.2f}")
    typer.echo(f"{'mIoU':>12} {100 * matrix.miou():6.2f} on {len(held_out)} images, {out}")


if __name__ == "__main__":
    typer.run(main)
