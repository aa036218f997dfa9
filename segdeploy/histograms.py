"""How often each magnitude occurs in each channel of each tensor: all that quantization asks for.

Bins are the same for every tensor, image and machine, and counts are whole numbers. So neither the
order of images nor the batch size matters, and shards that were counted apart add up exactly.
"""

import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import writing
from segdeploy.counting import BINS, OCTAVES, PER_OCTAVE, SMALLEST, count_magnitudes
from segdeploy.errors import SegdeployError

SCHEMA = 2
MOST_CHANNELS = 1 << 16  # of one tensor in a file
DAMAGED = (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile,
)  # fmt: skip
POINTS = 8  # values that stand for a bin where its rounding error is asked for

Floats = NDArray[np.float64]


def _edges() -> Floats:
    """Lower edges of the bins and the upper one of the last, (BINS + 1,)."""
    steps = np.arange(BINS - 1)
    lower = 2.0 ** (SMALLEST + steps // PER_OCTAVE) * (1 + steps % PER_OCTAVE / PER_OCTAVE)
    return np.concatenate([[0.0], lower, [2.0 ** (SMALLEST + OCTAVES)]])


def _points() -> Floats:
    """Evenly spread values of each bin, (BINS, POINTS); zero for the first."""
    width = np.diff(EDGES)[:, None]
    points = EDGES[:-1, None] + width * ((np.arange(POINTS) + 0.5) / POINTS)
    points[0] = 0
    return points


def _no_counts(channels: int) -> NDArray[np.int64]:
    """(2, C, BINS) of zeros, with all channels of a bin side by side.

    A tensor occupies few bins, and a page of zeros that nobody writes to takes no memory.
    """
    return np.zeros((2, BINS, channels), np.int64).swapaxes(1, 2)


EDGES = _edges()
VALUES = _points()


@dataclass(frozen=True)
class ChannelHistogram:
    """Counts (2, C, BINS) of values without and with a minus sign; exact extremes (C,).

    Half of what is behind a ReLU is never written to, and so takes no memory.
    """

    counts: NDArray[np.int64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def empty(cls, channels: int) -> Self:
        """Nothing counted yet."""
        low = np.full(channels, np.inf, np.float32)
        return cls(_no_counts(channels), low, -low)

    def count(self, values: NDArray[np.floating[Any]], *, threads: int = 1) -> None:
        """Add every value of (N, C, ...); nothing is sampled."""
        planes = np.ascontiguousarray(values, np.float32).reshape(*values.shape[:2], -1)
        edges = np.linspace(0, planes.shape[1], min(threads, planes.shape[1]) + 1).astype(int)

        def part(bounds: tuple[int, int]) -> bool:
            return bool(count_magnitudes(planes, self.counts, self.low, self.high, *bounds))

        with ThreadPoolExecutor(max(threads, 1)) as pool:
            if not all(pool.map(part, pairwise(edges))):
                raise SegdeployError("holds infinity or NaN")

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.counts + other.counts,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def magnitude(self) -> Floats:
        """The largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high)).astype(np.float64)

    @property
    def total(self) -> NDArray[np.int64]:
        """How many values each channel has."""
        return np.asarray(self.counts.sum(axis=(0, 2)))

    @property
    def is_signed(self) -> bool:
        """Whether any value is below zero."""
        return bool(self.low.min() < 0)

    def mean(self) -> Floats:
        """Of each channel, from the middles of the bins."""
        middles = VALUES.mean(axis=1)
        return np.asarray((self.counts[0] - self.counts[1]) @ middles / self.total)

    def second_moment(self) -> Floats:
        """Mean square of each channel, from the bins."""
        return np.asarray(self.counts.sum(axis=0) @ (VALUES**2).mean(axis=1) / self.total)

    def magnitudes(self) -> NDArray[np.int64]:
        """Of all channels together, without the sign, (BINS,)."""
        return np.asarray(self.counts.sum(axis=(0, 1)))

    def moved(self, scale: Floats, offset: Floats) -> Self:
        """One channel's worth of counts of all `scale * (x - offset)`, (2, 1, BINS)."""
        counts = np.zeros((2, BINS), np.int64)
        middles = VALUES.mean(axis=1)
        for channel, (factor, middle) in enumerate(zip(scale, offset, strict=True)):
            for sign, places in enumerate(self.counts[:, channel]):
                occupied = np.flatnonzero(places)
                x = (-middles if sign else middles)[occupied]
                y = factor * (np.clip(x, self.low[channel], self.high[channel]) - middle)
                bins = np.clip(np.searchsorted(EDGES, np.abs(y), side="right") - 1, 0, BINS - 1)
                np.add.at(counts, ((y < 0).astype(int), bins), places[occupied])
        low = (scale * (self.low - offset)).min(keepdims=True).astype(np.float32)
        high = (scale * (self.high - offset)).max(keepdims=True).astype(np.float32)
        return type(self)(counts[:, None], low, high)


@dataclass(frozen=True)
class Statistics:
    """A histogram per tensor, and what they were collected on."""

    histograms: Mapping[str, ChannelHistogram]
    images: int
    graph_sha256: str  # of the floating graph; another graph may use the same tensor names
    key: str = ""  # hash of all that determines them, shards left out
    shards: tuple[int, ...] = ()  # which shards of how many are in here; none: it is whole
    of_shards: int = 1

    def __add__(self, other: Self) -> Self:
        """Both shards together; refused where they do not belong together."""
        if (self.key, self.of_shards) != (other.key, other.of_shards):
            raise SegdeployError("the shards are of different graphs, sets or numbers of shards")
        if twice := set(self.shards) & set(other.shards):
            raise SegdeployError(f"shard {min(twice) + 1} of {self.of_shards} is there twice")
        tensors = {name: seen + other.histograms[name] for name, seen in self.histograms.items()}
        shards = tuple(sorted({*self.shards, *other.shards}))
        images = self.images + other.images
        return type(self)(tensors, images, self.graph_sha256, self.key, shards, self.of_shards)

    @property
    def missing(self) -> tuple[int, ...]:
        """Shards that are not in here yet."""
        if self.of_shards == 1:
            return ()
        return tuple(k for k in range(self.of_shards) if k not in self.shards)

    def save(self, path: Path) -> None:
        """Write as .npz, atomically; only occupied bins are kept."""
        with (
            writing(path) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, array in self._arrays():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)

    def _arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """One after the other: all at once took 13 MB more with the demo."""
        yield "schema", np.array(SCHEMA)
        yield "names", np.array(list(self.histograms))
        yield "images", np.array(self.images)
        yield "graph_sha256", np.array(self.graph_sha256)
        yield "key", np.array(self.key)
        yield "shards", np.array(self.shards, np.int64)
        yield "of_shards", np.array(self.of_shards)
        for index, seen in enumerate(self.histograms.values()):
            yield f"low{index}", seen.low
            yield f"high{index}", seen.high
            occupied = np.nonzero(seen.counts)
            places = np.ravel_multi_index(occupied, seen.counts.shape)
            yield f"places{index}", places.astype(np.uint32)
            yield f"counts{index}", seen.counts[occupied]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; nothing in it is trusted."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                if int(file["schema"]) != SCHEMA:
                    raise SegdeployError(f"schema {int(file['schema'])}; wanted {SCHEMA}")
                names = [str(name) for name in file["names"]]
                tensors = dict(zip(names, _histograms(file, len(names)), strict=True))
                return cls(
                    tensors,
                    int(file["images"]),
                    str(file["graph_sha256"]),
                    str(file["key"]),
                    tuple(int(k) for k in file["shards"]),
                    int(file["of_shards"]),
                )
        except FileNotFoundError as error:
            raise SegdeployError(f"{path}: no such file") from error
        except DAMAGED as error:
            raise SegdeployError(
                f"{path}: is not a file of statistics ({error})",
                hint="segdeploy calibrate MODEL -o statistics.npz writes one",
            ) from error
        except SegdeployError as error:
            raise SegdeployError(
                f"{path}: {error.problem}", hint="the file is damaged: calibrate again"
            ) from error


def _histograms(file: Any, tensors: int) -> Iterator[ChannelHistogram]:
    for index in range(tensors):
        low, high = file[f"low{index}"], file[f"high{index}"]
        places, found = file[f"places{index}"].astype(np.int64), file[f"counts{index}"]
        if low.ndim != 1 or low.shape != high.shape or not 0 < len(low) <= MOST_CHANNELS:
            raise SegdeployError(f"tensor {index} has extremes {low.shape} and {high.shape}")
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
            raise SegdeployError(f"tensor {index} has extremes that are not in order")
        counts = _no_counts(len(low))
        if places.shape != found.shape or not ((places >= 0) & (places < counts.size)).all():
            raise SegdeployError(f"tensor {index} has counts outside its bins")
        counts[np.unravel_index(places, counts.shape)] = found
        if (counts < 0).any() or not counts.any(axis=(0, 2)).all():
            raise SegdeployError(f"tensor {index} has a channel without values")
        yield ChannelHistogram(counts, low.astype(np.float32), high.astype(np.float32))
