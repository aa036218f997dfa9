"""Ranges: independent of how images arrive, exact where they should be, refused where damaged."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segdeploy.calibrate import (
    Histogram,
    Ranges,
    collect_ranges,
    mse_threshold,
    observe_graph,
    percentile_threshold,
)
from segdeploy.errors import SegdeployError

METHODS = ("max", "percentile", "mse")
BIN_WIDTH = 2**-7  # relative: 128 bins an octave


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 5, 3), np.uint8)


def two_tensors(batch: np.ndarray) -> dict[str, np.ndarray]:
    """Signed values over many octaves, and ReLU6-like ones."""
    x = batch.astype(np.float32)
    return {"signed": (x - 100) ** 3 / 7, "clipped": np.clip(x / 20 - 3, 0, 6)}


def ranges(batches: list[np.ndarray], method: str = "max") -> Ranges:
    return collect_ranges(two_tensors, batches, graph_sha256="0" * 64, method=method)


def normal(count: int = 100_000) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(count).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_neither_the_order_of_images_nor_the_batch_size_changes_a_range(method):
    pixels = images()

    one_by_one = ranges([image[None] for image in pixels], method)
    reversed_order = ranges([image[None] for image in pixels[::-1]], method)
    in_batches = ranges([pixels[:4], pixels[4:]], method)

    assert one_by_one == reversed_order == in_batches


def test_max_gives_the_exact_minimum_and_maximum():
    pixels = images()

    found = ranges([pixels[:1], pixels[1:]], "max")

    for name, values in two_tensors(pixels).items():
        assert found.values[name] == (values.min(), values.max())


def test_a_percentile_is_that_of_the_magnitudes():
    values = normal()

    threshold = percentile_threshold(Histogram.of(values), 99)

    exact = np.percentile(np.abs(values), 99)
    assert exact <= threshold <= exact * (1 + BIN_WIDTH)


def test_a_percentile_clips_the_longer_side_only():
    values = np.concatenate([normal(), [np.float32(50)]])

    low, high = Histogram.of(values).clipped(percentile_threshold(Histogram.of(values), 99.99))

    assert low == max(values.min(), -high)
    assert high < 5


def test_the_hundredth_percentile_is_the_maximum():
    histogram = Histogram.of(normal())

    assert percentile_threshold(histogram, 100) == histogram.magnitude


def test_mse_clips_where_int8_loses_least():
    values = np.concatenate([normal(), [np.float32(50)]])

    threshold = mse_threshold(Histogram.of(values))

    def error(clip: float) -> float:
        step = clip / 127
        return float(((np.rint(values / step).clip(-127, 127) * step - values) ** 2).sum())

    best = min(error(clip) for clip in np.linspace(1, 50, 500))
    assert error(threshold) < 1.01 * best  # 1.0007 times measured: 91 thresholds are tried
    assert error(threshold) < error(50)


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_has_the_range_zero(method):
    found = collect_ranges(
        lambda batch: {"zero": np.zeros((1, 2), np.float32)},
        [images(1)],
        graph_sha256="",
        method=method,
    )

    assert found.values == {"zero": (0, 0)}


def test_half_precision_activations_are_counted_as_they_are():
    values = normal(1000).astype(np.float16)

    assert np.array_equal(
        Histogram.of(values).counts, Histogram.of(values.astype(np.float32)).counts
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_activation_that_is_not_finite_is_refused_by_name(bad):
    values = normal(10)
    values[3] = bad

    with pytest.raises(SegdeployError, match="tensor broken holds infinity or NaN"):
        collect_ranges(lambda batch: {"broken": values}, [images(1)], graph_sha256="")


def test_no_image_is_refused():
    with pytest.raises(SegdeployError, match="no image to calibrate on"):
        collect_ranges(two_tensors, [], graph_sha256="")


@pytest.mark.parametrize(("method", "percentile"), [("entropy", 99.99), ("percentile", 101)])
def test_an_unknown_method_is_refused_before_an_image_is_read(method, percentile):
    def endless():
        raise AssertionError("an image was read")
        yield

    with pytest.raises(SegdeployError, match="wanted"):
        collect_ranges(
            two_tensors, endless(), graph_sha256="", method=method, percentile=percentile
        )


def test_ranges_survive_a_file_exactly(tmp_path):
    written = ranges([images()], "mse")

    written.to_json(tmp_path / "ranges.json")

    assert Ranges.from_json(tmp_path / "ranges.json") == written


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
        ("method", "entropy"),
        ("percentile", 0.0),
        ("schema", 99),
        ("surplus", 1),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, key, value):
    path = tmp_path / "ranges.json"
    ranges([images()]).to_json(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    with pytest.raises(SegdeployError, match=r"ranges\.json: "):
        Ranges.from_json(path)


@pytest.mark.parametrize("text", ["", "[]", "nul", "[" * 100_000])
def test_a_file_that_is_no_json_object_is_refused_by_name(tmp_path, text):
    path = tmp_path / "ranges.json"
    path.write_text(text)

    with pytest.raises(SegdeployError, match=r"ranges\.json: "):
        Ranges.from_json(path)


def test_an_observed_graph_returns_what_is_measured_and_nothing_else():
    onnxruntime = pytest.importorskip("onnxruntime")
    nodes = [
        helper.make_node("Sub", ["image", "mean"], ["x"]),
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 2, 3, 3))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 2, 3, 3))],
        [
            numpy_helper.from_array(np.float32(1), "mean"),
            numpy_helper.from_array(np.full((2, 2, 1, 1), -1, np.float32), "w"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)

    observed = observe_graph(model)

    onnx.checker.check_model(observed, full_check=True)
    session = onnxruntime.InferenceSession(observed.SerializeToString())
    x, b = session.run(["x", "b"], {"image": np.zeros((1, 2, 3, 3), np.float32)})
    assert [output.name for output in observed.graph.output] == ["x", "b"]
    assert (x == -1).all()
    assert (b == 2).all()
    assert [output.name for output in model.graph.output] == ["logits"]
