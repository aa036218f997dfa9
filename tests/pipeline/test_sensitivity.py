"""Layers are ranked by the error that each causes alone, in the time there is."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from onnx import numpy_helper

from segdeploy.artifacts import Graph
from segdeploy.errors import SegdeployError
from segdeploy.graph import read_model, save_graph
from segdeploy.pipeline import sensitivity
from segdeploy.pipeline.calibration import CalibrationImages
from segdeploy.pipeline.sensitivity import Layers, find_layers, rank_layers
from segdeploy.quantize.model import QuantizeOptions
from segdeploy.recipes import CalibrationSet
from segdeploy.spec import Method, Size
from segdeploy.verdict import Budget

BACKBONE = "segmentor.backbone"


@pytest.fixture
def calibration(blocks) -> CalibrationImages:
    """Six images, of which no more than four are to be taken."""
    images = blocks(Size(80, 100), count=6)
    recipe = CalibrationSet("set", "demo", "train", "mse")
    ids = tuple(map(str, range(6)))
    return CalibrationImages(recipe, "demo/train", ids, "", lambda: iter(images))


@pytest.fixture
def graph(exported) -> Graph:
    return exported(Method.FCN)


@dataclass
class Quantizer:
    """Instead of rounding, scales the weights of what is not floating; takes a second a graph."""

    graph: Graph
    layers: Layers
    errors: dict[str, float]
    now_s: float = 0.0
    asked: list[str] = field(default_factory=list)

    def __call__(self, floating: Collection[str], out: Path) -> Graph:
        self.now_s += 1
        (alone,) = self.layers.macs.keys() - set(floating)
        self.asked.append(alone)
        model = read_model(self.graph.path)
        for tensor in model.graph.initializer:
            if tensor.name.startswith(f"{alone}."):
                scaled = numpy_helper.to_array(tensor) * (1 + self.errors.get(alone, 0))
                tensor.CopyFrom(numpy_helper.from_array(scaled.astype("float32"), tensor.name))
        return save_graph(model, self.graph.manifest, out)


@pytest.fixture
def quantizer(graph) -> Quantizer:
    """Of the three layers of the head and the first of the backbone."""
    kept = tuple(f"{BACKBONE}.layer{k}" for k in range(1, 8))
    layers = find_layers(graph, QuantizeOptions(keep_fp32=kept))
    return Quantizer(graph, layers, {name: 0.01 * k for k, name in enumerate(layers.macs)})


def test_the_layers_are_those_that_int8_computes(graph):
    layers = find_layers(graph, QuantizeOptions())

    assert f"{BACKBONE}.layer1.0.conv.0.conv" in layers.macs
    assert "segmentor.decode_head.convs.0.conv" in layers.macs
    assert sum(layers.macs.values()) == pytest.approx(1)
    assert layers.floating_macs(()) == pytest.approx(0)
    assert layers.floating_macs(layers.macs) == 1


def test_what_stays_floating_anyway_is_no_layer(graph):
    options = QuantizeOptions(keep_fp32=(BACKBONE,), quantize_depthwise=False)

    layers = find_layers(graph, options)

    assert all(name.startswith("segmentor.decode_head") for name in layers.macs)
    assert 0 < layers.floating_macs(()) < 1


def test_each_layer_names_one_convolution(graph):
    layers = find_layers(graph, QuantizeOptions())
    count = sum(node.op_type == "Conv" for node in read_model(graph.path).graph.node)

    one_less = [find_layers(graph, QuantizeOptions(keep_fp32=(name,))) for name in layers.macs]

    assert {len(found.macs) for found in one_less} == {len(layers.macs) - 1}
    assert len(layers.macs) == count


def test_a_graph_without_layers_for_int8_is_refused(graph):
    with pytest.raises(SegdeployError, match="no convolution that int8 could compute"):
        find_layers(graph, QuantizeOptions(keep_fp32=("segmentor",)))


def rank(quantizer: Quantizer, calibration: CalibrationImages, seconds: float = 1e9):
    budget = Budget.from_now(seconds, lambda: quantizer.now_s)
    return rank_layers(quantizer.graph, quantizer.layers, quantizer, calibration, budget)


def test_the_worst_layer_comes_first(quantizer, calibration):
    ranking = rank(quantizer, calibration)

    noises = [layer.noise for layer in ranking]
    assert noises == sorted(noises, reverse=True)
    assert ranking[-1].name == next(iter(quantizer.layers.macs))  # whose error is 0
    assert ranking[-1].noise == 0 < ranking[-2].noise
    assert {layer.name: layer.macs_share for layer in ranking} == quantizer.layers.macs
    assert len(quantizer.asked) == len(ranking)


def test_layers_without_time_come_last(quantizer, calibration):
    ranking = rank(quantizer, calibration, seconds=4)  # of which half is for ranking: two layers

    measured = [layer for layer in ranking if layer.noise is not None]
    assert {layer.name for layer in measured} == set(list(quantizer.layers.macs)[:2])
    assert ranking[: len(measured)] == tuple(measured)
    assert len(ranking) == len(quantizer.layers.macs)


@pytest.mark.parametrize(("seconds", "images"), [(1e9, [4]), (3, [3]), (2.2, [2]), (0.1, [])])
def test_a_short_budget_takes_fewer_images(quantizer, calibration, monkeypatch, seconds, images):
    run: Callable = sensitivity._logits
    batches = []
    monkeypatch.setattr(
        sensitivity, "_logits", lambda graph, some: batches.append(len(some)) or run(graph, some)
    )
    quantizer.layers = Layers(dict(list(quantizer.layers.macs.items())[:2]))

    rank(quantizer, calibration, seconds=seconds)

    assert batches[:2] == [4, 4]  # the reference, and the layer that tells how long it takes
    assert batches[2:] == images
