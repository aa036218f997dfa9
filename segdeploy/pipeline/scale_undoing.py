"""One scale of an int8 graph set right: which, and to what, is read off the floating graph."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.causes import NAMED, SETTLED, Attempt, Cause
from segdeploy.difference import LayerNoise, PairedMoments, first_departure, sample
from segdeploy.errors import needs
from segdeploy.pipeline.calibration import graph_batch
from segdeploy.pipeline.sides import Kept, Layered, Side
from segdeploy.spec import Precision

if TYPE_CHECKING:
    from segdeploy.repairs import QuantizedTensor

Repaired = Callable[[Cause, str, Layered], Attempt]

OCTAVES, STEPS = 6, 8  # around a scale, in which the right one is sought
COARSE = tuple(2.0**k for k in (1, -1, 2, -2, 3, -3, 4, -4, 5, -5))
FINE = (0.5, 0.25, 0.125)  # octaves beside the best of them
OFF = 0.5  # octaves: a scale that is less wrong than this is not looked at
GAIN_DB = 3.0  # that a better scale gives its tensor


@dataclass(frozen=True, eq=False)
class _Suspect:
    """A tensor of the other, by how much its scale seems to be wrong, and what it is made of."""

    tensor: "QuantizedTensor"
    factor: float  # that gives the least noise


class ScaleUndoing:
    """Multiplies one scale near the layer that departs, or that loses most."""

    def __init__(
        self, reference: Side, other: Side, kept: Sequence[Kept], repaired: Repaired
    ) -> None:
        self._reference, self._other, self._kept = reference, other, kept
        self._repaired = repaired
        self.untried: list[str] = []

    def try_scales(self, layers: Sequence[LayerNoise]) -> Iterator[Attempt]:
        """The scale that explains most."""
        graph, reference = self._other.graph, self._reference.graph
        if self._other.manifest.precision is not Precision.INT8:
            return
        if graph is None or reference is None or not layers:
            self.untried.append(f"{Cause.SCALE}: no layers could be compared")
            return
        best: Attempt | None = None
        for attempt in self._attempts(graph, reference, layers):
            if best is None or attempt.explained > best.explained:
                best = attempt
            if attempt.explained >= SETTLED:
                break
        if best is not None:
            yield best

    def _attempts(
        self, graph: Layered, reference: Layered, layers: Sequence[LayerNoise]
    ) -> Iterator[Attempt]:
        from segdeploy.repairs import quantized_before

        tensors = [
            tensor
            for layer in _suspects(layers)
            for tensor in quantized_before(graph.model, layer.other)
        ]
        unique = list({tensor.scale: tensor for tensor in tensors}.values())
        if reference.manifest.precision is Precision.INT8:
            suspects = None
        else:
            suspects = self._wrong_scales(graph, reference, unique)
        if suspects is None:  # nothing says what a scale should be: all are tried
            for tensor in unique:
                for name in (tensor.scale, *tensor.weight_scales):
                    yield self._search(graph, name)
            return
        for suspect in suspects:
            yield self._set(graph, suspect.tensor.scale, suspect.factor)
        # Weights that are too large let a sound scale seem too small: those tensors come first.
        for tensor in dict.fromkeys([*(suspect.tensor for suspect in suspects), *unique]):
            for name in tensor.weight_scales:
                yield self._search(graph, name)

    def _wrong_scales(
        self, graph: Layered, reference: Layered, tensors: "Sequence[QuantizedTensor]"
    ) -> list[_Suspect] | None:
        """Those that another scale suits better, the worst first; None: no tensor has a pair."""
        from segdeploy.scale_doctor import activated_tensors, activation_scales

        scales = {scale.tensor: scale for scale in activation_scales(graph.model)}
        wanted = [scales[t.tensor] for t in tensors if t.tensor in scales]
        known = activated_tensors(reference.model, wanted)
        if not known:
            return None
        image = self._kept[0].image
        true = _samples(reference, {found.tensor for found in known.values()}, image)
        own = _samples(graph, known.keys(), image)
        found = []
        for tensor in tensors:
            if tensor.tensor not in known:
                continue
            scale = scales[tensor.tensor]
            values = own[tensor.tensor] / scale.scale
            low, high = tensor.codes or scale.codes
            factor, gain_db = best_factor(
                true[known[tensor.tensor].tensor],
                values,
                (low - scale.zero_point, high - scale.zero_point),
            )
            if abs(np.log2(factor)) >= OFF and gain_db >= GAIN_DB:
                found.append((gain_db, _Suspect(tensor, factor)))
        return [suspect for _, suspect in sorted(found, key=lambda entry: -entry[0])]

    def _set(self, graph: Layered, name: str, factor: float) -> Attempt:
        from segdeploy.repairs import scale_value, with_scale

        value = scale_value(graph.model, name)
        what = f"{name} at {value * factor:.3g} instead of {value:.3g}"
        repaired = Layered(with_scale(graph.model, name, factor), graph.manifest)
        return self._repaired(Cause.SCALE, what, repaired)

    def _search(self, graph: Layered, name: str) -> Attempt:
        """The best power of two, then what lies between."""
        tried: dict[float, Attempt] = {}
        for factor in COARSE:
            tried[factor] = self._set(graph, name, factor)
            if tried[factor].explained >= SETTLED:
                return tried[factor]
        best = max(tried, key=lambda factor: tried[factor].explained)
        if tried[best].explained < NAMED / 2:
            return tried[best]
        for octaves in FINE:
            for factor in (best * 2.0**octaves, best * 2.0**-octaves):
                tried[factor] = self._set(graph, name, factor)
            best = max(tried, key=lambda factor: tried[factor].explained)
        return tried[best]


def best_factor(
    true: NDArray[Any], values: NDArray[Any], codes: tuple[int, int]
) -> tuple[float, float]:
    """By what a scale must be multiplied for the least noise, and how many decibels that gains.

    Args:
        true: (C, k) activations of the floating graph.
        values: (C, k) of the quantized one before rounding, in units of the present scale.
        codes: the least and the largest, less the zero point.
    """

    def quality(factor: float) -> float:
        rounded = np.rint(values / factor).clip(*codes)
        return PairedMoments.of(true, rounded).sqnr_db(fitted=True)

    factors = 2.0 ** (np.arange(-OCTAVES * STEPS, OCTAVES * STEPS + 1) / STEPS)
    found = [quality(factor) for factor in factors]
    best = int(np.argmax(found))
    now = quality(1.0)
    return float(factors[best]), found[best] - now if np.isfinite(now) else 0.0


def _samples(layered: Layered, names: Any, image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    from segdeploy.graph import cut_graph

    with needs("onnxruntime", extra="onnxruntime"):
        from segdeploy.runtime.onnxruntime import PieceByPiece
    runner = PieceByPiece(cut_graph(layered.model, names))
    batch = graph_batch(layered.manifest, image)
    return {name: sample(values) for name, values in runner.run(batch)}


def _suspects(layers: Sequence[LayerNoise]) -> list[LayerNoise]:
    """The first layer that departs, and the one that loses most against the one before it."""
    departs = first_departure(layers, Precision.INT8)
    lost = [before.sqnr_db - after.sqnr_db for before, after in pairwise(layers)]
    finite = [loss if np.isfinite(loss) else 0.0 for loss in lost]
    steepest = layers[1 + int(np.argmax(finite))] if finite else None
    return list(dict.fromkeys(layer for layer in (departs, steepest) if layer is not None))
