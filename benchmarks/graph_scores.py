"""How an int8 graph of any tool scores beside the fp32 graph that it was made of."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from segdeploy.artifacts import Graph
from segdeploy.datasets import Dataset
from segdeploy.graph import with_outputs
from segdeploy.images import network_input
from segdeploy.metrics import ConfusionMatrix
from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
from segdeploy.spec import LabelMap, Logits

Found = tuple[LabelMap, Logits]  # of one image


@dataclass(frozen=True)
class Score:
    """Of one graph over the evaluation split."""

    miou: float  # percent
    miou_noise: float  # of its change, in points
    class_change: float  # points
    agree: float  # percent of the labels
    sqnr_db: float | None  # None: equal
    pairs: int  # quantize nodes of activations
    file_bytes: int


def sqnr_db(pairs: Iterable[tuple[Logits, Logits]]) -> float | None:
    """Signal to quantization noise of (fp32, int8) pairs in decibel, over all of them together."""
    signal = noise = 0.0
    for exact, found in pairs:
        signal += float(np.square(exact, dtype=np.float64).sum())
        noise += float(np.square(exact.astype(np.float64) - found).sum())
    return 10 * math.log10(signal / noise) if noise else None


def agreement(pairs: Iterable[tuple[LabelMap, LabelMap]]) -> float:
    """The share of equal labels in percent, over all pairs together."""
    equal = np.concatenate([(one == other).ravel() for one, other in pairs])
    return 100 * float(equal.mean())


def find_logits(model: onnx.ModelProto) -> str:
    """What the last Resize before ArgMax reads: behind a Q/DQ pair, if the logits have one."""
    producers = {output: node for node in model.graph.node for output in node.output}
    node = next(node for node in model.graph.node if node.op_type == "ArgMax")
    while node.op_type != "Resize":
        node = producers[node.input[0]]
    return str(node.input[0])


def count_pairs(model: onnx.ModelProto) -> int:
    """Quantize nodes of activations; some tools keep floating weights with a pair behind them."""
    nodes = model.graph.node
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {node.output[0] for node in nodes if node.op_type == "Constant"}
    quantized = [node.input[0] for node in nodes if node.op_type == "QuantizeLinear"]
    return sum(name not in constants for name in quantized)


def run_graph(path: Path, like: Graph, dataset: Dataset) -> list[Found]:
    """Labels and logits of each image; `like` is ours, whose manifest the others lack."""
    model = onnx.load(path)
    logits = find_logits(model)
    exposed = with_outputs(model, [logits]).SerializeToString()
    results = []
    with OnnxRuntimeSession(exposed, like.manifest, threads=1) as session:
        for index in range(len(dataset)):
            image = network_input(dataset.load_image(index), dataset.scale)
            found = session.outputs(image[None])
            results.append((next(iter(found.values()))[0], found[logits][0]))
    return results


def confusions(found: Sequence[Found], dataset: Dataset) -> list[ConfusionMatrix]:
    """Of each image."""
    count = len(dataset.classes)
    return [
        ConfusionMatrix.from_labels(dataset.load(index).labels, labels, count)
        for index, (labels, _) in enumerate(found)
    ]


def total(matrices: Sequence[ConfusionMatrix]) -> ConfusionMatrix:
    """All images together."""
    return sum(matrices[1:], start=matrices[0])


def change_noise(
    exact: Sequence[ConfusionMatrix], found: Sequence[ConfusionMatrix], draws: int = 200
) -> float:
    """The standard deviation of the change of the mIoU in points: images drawn with replacement."""
    dice = np.random.default_rng(0)
    changes = []
    for _ in range(draws):
        chosen = dice.integers(0, len(exact), len(exact))
        before, after = (total([side[k] for k in chosen]).miou() for side in (exact, found))
        changes.append(100 * (after - before))
    return float(np.std(changes))


def score(path: Path, found: Sequence[Found], exact: Sequence[Found], dataset: Dataset) -> Score:
    """Compare what a graph finds with the ground truth, and with what the fp32 graph finds."""
    before, after = confusions(exact, dataset), confusions(found, dataset)
    both = list(zip(exact, found, strict=True))
    return Score(
        miou=100 * total(after).miou(),
        miou_noise=change_noise(before, after),
        class_change=100 * float(np.nanmean(np.abs(total(after).iou() - total(before).iou()))),
        agree=agreement((one[0], other[0]) for one, other in both),
        sqnr_db=sqnr_db((one[1], other[1]) for one, other in both),
        pairs=count_pairs(onnx.load(path)),
        file_bytes=path.stat().st_size,
    )
