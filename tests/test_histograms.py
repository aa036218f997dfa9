"""Counts: nothing is lost, no order matters, shards add up, and files are not trusted."""

import numpy as np
import pytest

from segdeploy.errors import SegdeployError
from segdeploy.histograms import EDGES, ChannelHistogram, Statistics


def values(count: int = 6, channels: int = 5) -> np.ndarray:
    """Signed, over many octaves, with zeros."""
    rng = np.random.default_rng(0)
    drawn = (
        rng.standard_normal((count, channels, 7, 9)) ** 3
        * 10.0 ** np.arange(-2, channels - 2)[:, None, None]
    )
    return np.where(rng.random(drawn.shape) < 0.3, 0, drawn).astype(np.float32)


def counted(*batches: np.ndarray, threads: int = 1) -> ChannelHistogram:
    found = ChannelHistogram.empty(batches[0].shape[1])
    for batch in batches:
        found.count(batch, threads=threads)
    return found


def same(one: ChannelHistogram, other: ChannelHistogram) -> bool:
    return all(
        np.array_equal(getattr(one, key), getattr(other, key)) for key in ("counts", "low", "high")
    )


def statistics(batch: np.ndarray, **facts: object) -> Statistics:
    seen = {"x": counted(batch), "y": counted(np.maximum(batch, 0))}
    return Statistics(seen, len(batch), "0" * 64, key="k", **facts)


def test_counts_are_those_of_numpy():
    batch = values()

    found = counted(batch)

    for channel in range(batch.shape[1]):
        flat = batch[:, channel].ravel()
        for sign, chosen in enumerate((flat[flat >= 0], -flat[flat < 0])):
            expected, _ = np.histogram(chosen, bins=np.append(EDGES[:-1], np.inf))
            assert np.array_equal(found.counts[sign, channel], expected)
    assert np.array_equal(found.low, batch.min(axis=(0, 2, 3)))
    assert np.array_equal(found.high, batch.max(axis=(0, 2, 3)))


def test_neither_order_nor_batch_size_nor_threads_change_a_count():
    batch = values()

    whole = counted(batch)

    assert same(whole, counted(*(image[None] for image in batch[::-1])))
    assert same(whole, counted(batch[:4], batch[4:], threads=3))


def test_half_precision_is_counted_as_it_is():
    batch = values().astype(np.float16)

    assert same(counted(batch), counted(batch.astype(np.float32)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    batch = values()
    batch[1, 2, 3, 4] = bad

    with pytest.raises(SegdeployError, match="infinity or NaN"):
        counted(batch)


def test_moments_are_close_to_the_true_ones():
    batch = values().astype(np.float64)

    found = counted(batch)

    mean, square = batch.mean(axis=(0, 2, 3)), (batch**2).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(found.second_moment(), square, rtol=0.03)  # bins are 3 to 6 % wide
    np.testing.assert_allclose(found.mean(), mean, atol=0.03 * np.sqrt(square).max())


def test_moved_counts_are_those_of_the_moved_values():
    batch = values()
    scale, offset = np.array([1, 2, 0.5, 3, 1.0]), np.array([0, 1, -1, 0.3, 5.0])

    moved = counted(batch).moved(scale, offset)

    expected = scale[:, None, None] * (batch - offset[:, None, None])
    assert moved.counts.sum() == batch.size
    assert moved.low[0] == pytest.approx(expected.min(), rel=1e-6)
    assert moved.high[0] == pytest.approx(expected.max(), rel=1e-6)
    # Most zeros of a channel land in one bin, at the very place of its offset.
    direct = counted(expected.reshape(6, 1, 5 * 7, 9).astype(np.float32))
    assert moved.second_moment()[0] == pytest.approx(direct.second_moment()[0], rel=0.05)


def test_shards_add_up_exactly():
    batch = values()
    whole = statistics(batch)

    merged = statistics(batch[::2], shards=(0,), of_shards=2) + statistics(
        batch[1::2], shards=(1,), of_shards=2
    )

    assert merged.missing == ()
    assert merged.images == whole.images
    assert all(same(merged.histograms[name], whole.histograms[name]) for name in ("x", "y"))


def test_a_shard_counts_once():
    shard = statistics(values(), shards=(1,), of_shards=3)

    assert shard.missing == (0, 2)
    with pytest.raises(SegdeployError, match="shard 2 of 3 is there twice"):
        shard + shard


def test_shards_of_other_sets_are_refused():
    with pytest.raises(SegdeployError, match="different graphs, sets or numbers"):
        statistics(values(), shards=(0,), of_shards=2) + statistics(
            values(), shards=(1,), of_shards=3
        )


def test_statistics_survive_a_file_exactly(tmp_path):
    written = statistics(values(), shards=(2,), of_shards=4)

    written.save(tmp_path / "s.npz")

    found = Statistics.load(tmp_path / "s.npz")
    assert (found.images, found.key, found.shards, found.of_shards) == (6, "k", (2,), 4)
    assert all(same(found.histograms[name], written.histograms[name]) for name in ("x", "y"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", np.array(99)),
        ("low0", np.array([np.nan] * 5, np.float32)),
        ("low0", np.array([1e30] * 5, np.float32)),
        ("low0", np.zeros((5, 5), np.float32)),
        ("places0", np.array([10**9], np.uint32)),
        ("counts0", np.array([-1])),
        ("names", np.array(["only one"])),
        ("images", np.array([1, 2])),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, key, value):
    path = tmp_path / "s.npz"
    statistics(values()).save(path)
    with np.load(path) as file:
        arrays = {**dict(file), key: value}
    if key == "counts0":
        arrays["places0"] = np.array([3], np.uint32)
    if key == "names":
        arrays["names"] = np.array(["x", "y", "z"])
    np.savez(path, **arrays)

    with pytest.raises(SegdeployError, match=r"s\.npz: "):
        Statistics.load(path)


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, schema=np.array([object()], dtype=object), allow_pickle=True)

    with pytest.raises(SegdeployError, match="is not a file of statistics"):
        Statistics.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"text"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "s.npz"
    path.write_bytes(content)

    with pytest.raises(SegdeployError, match=r"s\.npz: is not a file of statistics"):
        Statistics.load(path)
