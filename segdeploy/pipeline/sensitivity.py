"""Which convolutions lose accuracy in int8: each alone, by the error that the logits show."""

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import Graph
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.calibration import CalibrationImages, graph_batch
from segdeploy.pipeline.graphs import logits_of, nominal_size
from segdeploy.progress import progress_bar
from segdeploy.spec import Images
from segdeploy.verdict import Budget, LayerError

if TYPE_CHECKING:
    from segdeploy.quantize.model import QuantizeOptions

IMAGES = 4  # of the calibration set: noise of a layer differs by layer far more than by image
SHARE = 0.5  # of the time left at most: the search that uses the ranking wants the rest

Quantize = Callable[[Collection[str], Path], Graph]  # with these layers floating, written there


@dataclass(frozen=True)
class Layers:
    """The convolutions of a graph that become int8, with their share of all multiplications."""

    macs: Mapping[str, float]

    def floating_macs(self, floating: Collection[str]) -> float:
        """The share that is computed in floating point when these layers are."""
        integer = sum(share for name, share in self.macs.items() if name not in floating)
        return min(max(1 - integer, 0.0), 1.0)


def find_layers(graph: Graph, options: "QuantizeOptions") -> Layers:
    """The convolutions that int8 computes: by their module's path where it names no other."""
    from segdeploy.graph import read_model
    from segdeploy.placement import place_pairs
    from segdeploy.rewrite.cost import macs_by_node

    model = read_model(graph.path)
    placement = place_pairs(
        model.graph,
        keep_fp32=options.keep_fp32,
        quantize_depthwise=options.quantize_depthwise,
    )
    macs = macs_by_node(model, nominal_size(graph.manifest))
    total = sum(macs.values())
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    weights = [node.input[1] for node in convolutions]
    found = {
        _name(node, weights): macs.get(node.output[0], 0) / total
        for node in convolutions
        if node.output[0] in placement.convolutions
    }
    if not found:
        raise SegdeployError(f"{graph.path}: has no convolution that int8 could compute")
    return Layers(found)


def _name(node: Any, weights: Sequence[str]) -> str:
    module = str(node.input[1]).partition(".weight")[0]
    if sum(weight.startswith(f"{module}.") for weight in weights) == 1:
        return module
    if not node.name:
        raise SegdeployError(
            f"the convolution that returns {node.output[0]} has no name, and shares its weights",
            hint="give the graph's nodes names, or export it with segdeploy",
        )
    return str(node.name)


def rank_layers(
    graph: Graph,
    layers: Layers,
    quantize: Quantize,
    calibration: CalibrationImages,
    budget: Budget,
) -> tuple[LayerError, ...]:
    """Quantize each layer alone and measure the logits' error; most harmful first.

    Where the budget is short, fewer images are used; layers it leaves no time for come last.
    """
    batches = [graph_batch(graph.manifest, image) for image in islice(calibration.load(), IMAGES)]
    reference = _logits(graph, batches)
    powers = [float(np.square(logits).sum()) for logits in reference]
    allowed_s = budget.left_s * SHARE
    enough_s = budget.left_s - allowed_s  # nothing is begun when no more than this is left
    images = len(batches)
    errors: dict[str, list[float]] = {}
    with (
        TemporaryDirectory(prefix="segdeploy-") as folder,
        progress_bar("measuring layers", len(layers.macs)) as advance,
    ):
        alone = Path(folder) / "alone.onnx"
        for name in layers.macs:
            before_s = budget.left_s
            if errors and before_s <= enough_s:
                break
            found = _logits(quantize(sorted(layers.macs.keys() - {name}), alone), batches[:images])
            errors[name] = [
                float(np.square(logits - wanted).sum())
                for logits, wanted in zip(found, reference, strict=False)
            ]
            if len(errors) == 1:
                images = _images_that_fit(
                    images, before_s - budget.left_s, allowed_s / len(layers.macs)
                )
            advance(1)
    ranked = [
        LayerError(name, share, _ratio(errors[name][:images], powers) if name in errors else None)
        for name, share in layers.macs.items()
    ]
    return tuple(sorted(ranked, key=lambda layer: 1 if layer.noise is None else -layer.noise))


def _images_that_fit(images: int, took_s: float, allowed_s: float) -> int:
    """As many as the first layer's time says; quantizing counts as running, so rather too few."""
    fit = int(images * allowed_s / took_s) if took_s > 0 else images
    return min(max(fit, 1), images)


def _ratio(errors: Sequence[float], powers: Sequence[float]) -> float:
    noise = sum(errors) / (sum(powers[: len(errors)]) or 1.0)
    return noise if math.isfinite(noise) else sys.float_info.max  # an overflow: the worst


def _logits(graph: Graph, batches: Sequence[Images]) -> list[NDArray[np.float64]]:
    from segdeploy.graph import read_model

    found = logits_of(read_model(graph.path), graph.manifest, batches)
    return [logits.astype(np.float64) for logits in found]
