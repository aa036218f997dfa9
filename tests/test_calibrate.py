"""Statistics are collected once over images, go on where they stopped, and give ranges."""

import json
from collections.abc import Iterator
from struct import unpack

import numpy as np
import pytest

from segdeploy.calibrate import Ranges, collect_statistics, ranges_of
from segdeploy.errors import SegdeployError
from segdeploy.histograms import Statistics


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 5, 3), np.uint8)


def tensors(batch: np.ndarray) -> dict[str, np.ndarray]:
    """Signed values over many octaves, and ReLU6-like ones; (N, 3, 4, 5)."""
    x = np.moveaxis(batch, -1, 1).astype(np.float32)
    return {"signed": (x - 100) ** 3 / 7, "clipped": np.clip(x / 20 - 3, 0, 6)}


def run(batch: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield from tensors(batch).items()


def collected(pixels: np.ndarray) -> Statistics:
    return collect_statistics(run, (image[None] for image in pixels), graph_sha256="0" * 64)


def test_max_gives_the_exact_minimum_and_maximum():
    pixels = images()

    found = ranges_of(collected(pixels), "max")

    for name, values in tensors(pixels).items():
        assert found.values[name] == (values.min(), values.max())


def test_an_interrupted_run_goes_on_where_it_stopped():
    pixels, kept = images(), []

    whole = collect_statistics(
        run,
        (i[None] for i in pixels),
        graph_sha256="",
        every=2,
        keep=lambda s: kept.append(s.images),
    )
    begun = collect_statistics(run, (i[None] for i in pixels[:4]), graph_sha256="")
    rest = collect_statistics(run, (i[None] for i in pixels[4:]), graph_sha256="", begun=begun)

    assert kept == [2, 4, 6]
    assert rest.images == whole.images == 6
    assert ranges_of(rest, "mse") == ranges_of(whole, "mse")


def test_a_percentile_clips_the_longer_side_only():
    seen = collected(images())

    low, high = ranges_of(seen, "percentile", 60).values["signed"]

    assert low == -high or low > -high
    assert high < seen.histograms["signed"].high.max()


def test_an_activation_that_is_not_finite_is_refused_by_name():
    def broken(batch: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        yield "broken", np.full((1, 1, 2), np.nan, np.float32)

    with pytest.raises(SegdeployError, match="tensor broken holds infinity or NaN"):
        collect_statistics(broken, [images(1)], graph_sha256="")


def test_no_image_is_refused():
    with pytest.raises(SegdeployError, match="no image to calibrate on"):
        collect_statistics(run, [], graph_sha256="")


def test_shards_alone_have_no_ranges():
    whole = collected(images())
    shard = Statistics(whole.histograms, 6, "", shards=(0,), of_shards=3)

    with pytest.raises(SegdeployError, match="shard 2, 3 of 3 is missing"):
        ranges_of(shard, "max")


def test_ranges_survive_a_file_exactly(tmp_path):
    written = ranges_of(collected(images()), "mse")

    written.to_json(tmp_path / "ranges.json")

    assert Ranges.from_json(tmp_path / "ranges.json") == written


def test_a_tensorrt_cache_holds_big_endian_scales(tmp_path):
    ranges = ranges_of(collected(images()), "max")

    ranges.to_cache(tmp_path / "ranges.cache")

    header, *lines = (tmp_path / "ranges.cache").read_text().splitlines()
    assert header.startswith("TRT-")
    assert header.endswith("-EntropyCalibration2")
    scales = dict(line.rsplit(": ", 1) for line in lines)
    for name, (low, high) in ranges.values.items():
        (scale,) = unpack(">f", bytes.fromhex(scales[name]))
        assert scale == np.float32(max(abs(low), abs(high)) / 127)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("values", {"x": [0.0, float("nan")]}),
        ("values", {"x": [1.0, -1.0]}),
        ("values", {"x": [1.0]}),
        ("values", {"x": [False, 1.0]}),
        ("values", []),
        ("images", 0),
        ("images", True),
        ("method", "kl"),
        ("percentile", 0.0),
        ("schema", 99),
        ("surplus", 1),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, key, value):
    path = tmp_path / "ranges.json"
    ranges_of(collected(images()), "max").to_json(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    with pytest.raises(SegdeployError, match=r"ranges\.json: "):
        Ranges.from_json(path)


@pytest.mark.parametrize("text", ["", "[]", "nul", "[" * 100_000])
def test_a_file_that_is_no_json_object_is_refused_by_name(tmp_path, text):
    path = tmp_path / "ranges.json"
    path.write_text(text)

    with pytest.raises(SegdeployError, match=r"ranges\.json: "):
        Ranges.from_json(path)
