"""Activation ranges: one pass over images, a histogram per tensor, and a range read off each."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from segdeploy.artifacts import writing
from segdeploy.errors import SegdeployError
from segdeploy.placement import activations_to_quantize
from segdeploy.spec import Images

Predict = Callable[[Images], Mapping[str, NDArray[np.floating[Any]]]]

METHODS = ("max", "percentile", "mse")
SCHEMA = 1
PERCENTILE = 99.99
_BINS = 1 << 15  # magnitudes of bfloat16: 128 bins an octave, 0.8 % wide
_NOT_FINITE = 0x7F80  # bfloat16 infinity; NaN lies above
_CHUNK = 1 << 18  # values counted at a time: 1 MiB stays in the cache (3 ns a value, 9 in one go)
_MSE_FRACTIONS = np.linspace(0.1, 1, 91)  # of the largest magnitude, tried as clipping threshold
_MSE_LEVELS = 127  # positive steps of symmetric int8
_MSE_POINTS = 4  # values tried in a bin: near the maximum a bin is as wide as a quantization step


@dataclass(frozen=True)
class Histogram:
    """How often each magnitude occurs in one tensor, and the exact minimum and maximum.

    A bin is a bfloat16 value: the upper half of a float32's bits, without the sign. Bins are the
    same for every tensor and image, so neither the order of images nor the batch size matters.
    """

    counts: NDArray[np.int64]  # (32768,)
    low: float
    high: float

    def __add__(self, other: Self) -> Self:
        counts = self.counts + other.counts
        return type(self)(counts, min(self.low, other.low), max(self.high, other.high))

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> Self:
        """Count every value; nothing is sub-sampled."""
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        if flat.size == 0:
            raise SegdeployError("holds no value")
        counts = np.zeros(2 * _BINS, np.int64)
        for start in range(0, flat.size, _CHUNK):
            bits = flat[start : start + _CHUNK].view(np.uint32)
            counts += np.bincount((bits >> 16).astype(np.intp), minlength=2 * _BINS)
        magnitudes = counts[:_BINS] + counts[_BINS:]
        if magnitudes[_NOT_FINITE:].any():
            raise SegdeployError("holds infinity or NaN")
        return cls(magnitudes, float(flat.min()), float(flat.max()))

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    def clipped(self, threshold: float) -> tuple[float, float]:
        """The range of values whose magnitude is at most `threshold`."""
        return max(self.low, -threshold), min(self.high, threshold)


@dataclass(frozen=True)
class Ranges:
    """Low and high per tensor, and what they were collected on."""

    values: Mapping[str, tuple[float, float]]
    method: str
    images: int
    graph_sha256: str  # of the floating graph; another graph may use the same tensor names
    percentile: float = PERCENTILE  # of interest for method "percentile" only
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for name, (low, high) in self.values.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise SegdeployError(
                    f"range of {name}: {low} to {high}; wanted finite, low <= high"
                )
        if self.images < 1:
            raise SegdeployError(f"ranges of {self.images} images; wanted at least 1")
        _check_method(self.method, self.percentile)

    def to_json(self, path: Path) -> None:
        """Write as JSON, atomically; the numbers survive exactly."""
        with writing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """Read what `to_json` wrote; nothing in it is trusted."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SegdeployError(f"{path}: no such file") from error
        except (OSError, ValueError, RecursionError) as error:
            raise SegdeployError(f"{path}: is not JSON ({error})") from error
        try:
            return cls(**_checked(content))
        except SegdeployError as error:
            raise SegdeployError(
                f"{path}: {error.problem}", hint="the file is damaged: calibrate again"
            ) from error


def _checked(content: Any) -> dict[str, Any]:
    types = {"values": dict, "method": str, "images": int, "graph_sha256": str}
    types |= {"percentile": float, "schema": int}
    if not isinstance(content, dict) or content.keys() != types.keys():
        raise SegdeployError(f"wanted an object with the keys {', '.join(types)}")
    for key, kind in types.items():
        if type(content[key]) is not kind:  # not isinstance: true is an int
            raise SegdeployError(f"{key} is {content[key]!r:.60}; wanted {kind.__name__}")
    if content["schema"] != SCHEMA:
        raise SegdeployError(f"schema {content['schema']}; this segdeploy reads {SCHEMA}")
    for name, pair in content["values"].items():
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not is_pair or any(type(bound) is not float for bound in pair):
            raise SegdeployError(f"range of {name} is {pair!r:.60}; wanted two floats")
    return content | {
        "values": {name: (low, high) for name, (low, high) in content["values"].items()}
    }


def observe_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every tensor to be measured, and nothing else, as output."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    known = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type for value in (*known.input, *known.output, *known.value_info)}
    observed.graph.output.extend(
        onnx.helper.make_value_info(name, types[name]) for name in activations_to_quantize(model)
    )
    return observed


def collect_ranges(
    run: Predict,
    images: Iterable[Images],
    *,
    graph_sha256: str,
    method: str = "mse",
    percentile: float = PERCENTILE,
) -> Ranges:
    """Run every image once and read a range off each tensor's histogram.

    Args:
        run: images -> tensors by name; a session of the graph that `observe_graph` returned.
        images: batches of any size; only one is held at a time.
        graph_sha256: `placement.graph_sha256` of the graph that was observed.
        method: `max` clips nothing; `percentile` clips the largest magnitudes; `mse` clips where
            the error of rounding to symmetric int8 plus that of clipping is least.
        percentile: share of the values, in percent, that `percentile` leaves unclipped.
    """
    _check_method(method, percentile)
    histograms: dict[str, Histogram] = {}
    count = 0
    for batch in images:
        count += len(batch)
        for name, values in run(batch).items():
            try:
                seen = Histogram.of(values)
            except SegdeployError as error:
                raise SegdeployError(
                    f"tensor {name} {error.problem} in calibration batch ending at image {count}",
                    hint="look at the weights, and run the image through the fp32 graph",
                ) from error
            histograms[name] = histograms[name] + seen if name in histograms else seen
    if count == 0:
        raise SegdeployError("no image to calibrate on; wanted at least 1")
    return Ranges(
        values={name: _range_of(seen, method, percentile) for name, seen in histograms.items()},
        method=method,
        images=count,
        graph_sha256=graph_sha256,
        percentile=float(percentile),
    )


def _range_of(histogram: Histogram, method: str, percentile: float) -> tuple[float, float]:
    if method == "max":
        return histogram.low, histogram.high
    if method == "percentile":
        return histogram.clipped(percentile_threshold(histogram, percentile))
    return histogram.clipped(mse_threshold(histogram))


def percentile_threshold(histogram: Histogram, percentile: float) -> float:
    """The magnitude, up to a bin's upper edge, that `percentile` % of the values do not exceed."""
    cumulated = np.cumsum(histogram.counts)
    bin_index = int(np.searchsorted(cumulated, cumulated[-1] * (percentile / 100)))
    return min(float(_edges()[bin_index + 1]), histogram.magnitude)


def mse_threshold(histogram: Histogram) -> float:
    """The clipping threshold with the least mean squared error of symmetric int8.

    Rounding is computed, not modelled: zeros, most of what a ReLU returns, have no rounding error.
    """
    if histogram.magnitude == 0:
        return 0.0
    occupied = np.flatnonzero(histogram.counts)
    edges = _edges()
    offsets = (np.arange(_MSE_POINTS) + 0.5) / _MSE_POINTS
    width = (edges[occupied + 1] - edges[occupied])[:, None]
    points = edges[occupied][:, None] + width * offsets
    points[occupied == 0] = 0  # the first bin holds zero, and denormals
    errors = []
    for fraction in _MSE_FRACTIONS:
        step = fraction * histogram.magnitude / _MSE_LEVELS
        rounded = np.minimum(np.rint(points / step), _MSE_LEVELS) * step
        errors.append(histogram.counts[occupied] @ ((points - rounded) ** 2).mean(axis=1))
    return float(_MSE_FRACTIONS[int(np.argmin(errors))]) * histogram.magnitude


def _edges() -> NDArray[np.float64]:
    """Lower edges of the finite bins and of the first infinite one, (32641,); that one is 2^128."""
    bits = np.arange(_NOT_FINITE, dtype=np.uint32) << 16
    return np.append(bits.view(np.float32).astype(np.float64), 2.0**128)


def _check_method(method: str, percentile: float) -> None:
    if method not in METHODS:
        raise SegdeployError(f"calibration method {method!r}; wanted one of {', '.join(METHODS)}")
    if not 50 < percentile <= 100:
        raise SegdeployError(f"percentile {percentile}; wanted above 50, at most 100")
