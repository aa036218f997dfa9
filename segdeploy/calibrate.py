"""Calibration: one pass over images that counts, and the ranges that are read off the counts."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from struct import pack
from typing import Any, Self

from numpy.typing import NDArray

from segdeploy.artifacts import write_json, writing
from segdeploy.errors import SegdeployError
from segdeploy.histograms import ChannelHistogram, Statistics
from segdeploy.spec import Images
from segdeploy.thresholds import INT8_STEPS, PERCENTILE, check_method, threshold

Run = Callable[[Images], Iterator[tuple[str, NDArray[Any]]]]

SCHEMA = 1
CACHE_HEADER = "TRT-100400-EntropyCalibration2"  # TensorRT <= 10 reads a cache of any version


@dataclass(frozen=True)
class Ranges:
    """Low and high per tensor, and how they were read off which statistics."""

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
        check_method(self.method, self.percentile)

    def to_json(self, path: Path) -> None:
        """Write as JSON, atomically; the numbers survive exactly."""
        write_json(path, asdict(self))

    def to_cache(self, path: Path) -> None:
        """Write as the calibration cache of TensorRT up to 10, which DeepStream reads too.

        One tensor a line, its scale as the hexadecimal bytes of a big-endian float32.
        """
        lines = [CACHE_HEADER]
        for name, (low, high) in self.values.items():
            scale = max(abs(low), abs(high)) / INT8_STEPS
            lines.append(f"{name}: {pack('>f', scale).hex()}")
        with writing(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

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


def collect_statistics(
    run: Run,
    images: Iterable[Images],
    *,
    graph_sha256: str,
    key: str = "",
    threads: int = 1,
    begun: Statistics | None = None,
    every: int = 0,
    keep: Callable[[Statistics], None] | None = None,
) -> Statistics:
    """Run every image once and count.

    Args:
        run: images -> tensors (N, C, ...) one by one; `PieceByPiece.run`.
        images: batches of any size; only one is held at a time.
        graph_sha256: `placement.graph_sha256` of the graph that is observed.
        key: what the result is known by in a cache.
        threads: that count at the same time.
        begun: what was collected of earlier images, which `images` leaves out.
        every: after how many images `keep` is called, for a later run to go on from; 0: never.
        keep: is given what there is so far.
    """
    histograms = dict(begun.histograms) if begun else {}
    count = begun.images if begun else 0
    kept = count
    for batch in images:
        count += len(batch)
        for name, values in run(batch):
            if name not in histograms:
                histograms[name] = ChannelHistogram.empty(values.shape[1])
            try:
                histograms[name].count(values, threads=threads)
            except SegdeployError as error:
                raise SegdeployError(
                    f"tensor {name} {error.problem} in calibration batch ending at image {count}",
                    hint="look at the weights, and run the image through the fp32 graph",
                ) from error
        if keep and every and count - kept >= every:
            keep(Statistics(histograms, count, graph_sha256, key))
            kept = count
    if count == 0:
        raise SegdeployError("no image to calibrate on; wanted at least 1")
    return Statistics(histograms, count, graph_sha256, key)


def ranges_of(statistics: Statistics, method: str, percentile: float = PERCENTILE) -> Ranges:
    """Read a range off each tensor's histogram.

    Args:
        statistics: of all images; shards that were not merged have no ranges.
        method: `max` clips nothing; `percentile` clips the largest magnitudes; `entropy` and `mse`
            clip where the quantized values differ least, by relative entropy or squared error.
        percentile: share of the values, in percent, that `percentile` leaves unclipped.
    """
    check_method(method, percentile)
    if statistics.missing:
        shards = ", ".join(str(shard + 1) for shard in statistics.missing)
        raise SegdeployError(
            f"shard {shards} of {statistics.of_shards} is missing", hint="merge all shards"
        )
    values = {}
    for name, seen in statistics.histograms.items():
        bound = threshold(seen, method, percentile)
        low, high = max(float(seen.low.min()), -bound), min(float(seen.high.max()), bound)
        values[name] = (low, high)
    return Ranges(values, method, statistics.images, statistics.graph_sha256, float(percentile))
