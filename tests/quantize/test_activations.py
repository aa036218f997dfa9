"""Stretching and moving activations is exact algebra: in floats the network stays the same."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from segdeploy.placement import place_pairs
from segdeploy.quantize.activations import Method, condition
from segdeploy.quantize.network import Network
from segdeploy.quantize.pixels import take_exact_pixels


def floating_again(network: Network) -> ModelProto:
    """The changed network with its activations in floats: no rounding, but saturation."""
    model = ModelProto()
    model.CopyFrom(network.model)
    for node in model.graph.node:
        name = node.output[0]
        if name in network.weights:
            del node.input[1:]
            for kind, values in (("w", network.weights[name]), ("b", network.biases[name])):
                tensor = numpy_helper.from_array(values.astype(np.float32), f"{name}_{kind}")
                model.graph.initializer.append(tensor)
                node.input.append(tensor.name)
    onnx.checker.check_model(model, full_check=True)
    return model


def saturated(model: ModelProto, activations: dict, renamed: dict[str, str]) -> ModelProto:
    """With a Clip where int8 saturates."""
    for name, activation in activations.items():
        tensor = renamed.get(name, name)
        low, high = -128 * activation.step, 127 * activation.step
        readers = [n for n in model.graph.node if tensor in n.input]
        place = [n.output[0] if n.output else "" for n in model.graph.node].index(tensor)
        bounds = [
            numpy_helper.from_array(np.float32(value), f"{tensor}_{kind}")
            for kind, value in (("low", low), ("high", high))
        ]
        model.graph.initializer.extend(bounds)
        clip = onnx.helper.make_node(
            "Clip", [tensor, *(bound.name for bound in bounds)], [f"{tensor}_clipped"]
        )
        for reader in readers:
            for index, source in enumerate(reader.input):
                if source == tensor:
                    reader.input[index] = clip.output[0]
        model.graph.node.insert(place + 1, clip)
    return model


def conditioned(model: ModelProto, statistics):
    network, placement = Network(model), place_pairs(model.graph)
    method = Method("max", 100)
    found = condition(network, placement, statistics.histograms, method, full_range=False)
    return network, found


def test_the_network_computes_the_same_in_floats(tiny, model, statistics):
    network, found = conditioned(model, statistics)
    changed = saturated(floating_again(network), found, network.renamed)

    for image in tiny.images():
        wanted = tiny.session(model).run(None, {"image": image[None]})[0]
        got = tiny.session(changed).run(None, {"image": image[None]})[0]
        # Channels that never reach 6 saturate where their own best threshold is.
        assert np.abs(got - wanted).max() < 0.05 * np.ptp(wanted)


def test_what_a_relu_returns_takes_all_of_int8_before_single_pixels_are_read(model, statistics):
    network, found = conditioned(model, statistics)

    assert network.renamed == {"filtered": "depthwise_out", "features": "head_out"}
    assert found["filtered"].step == pytest.approx(6 / 255)
    assert found["expanded"].step == pytest.approx(6 / 127)  # padding needs an exact zero


def test_pixels_lose_nothing(tiny, model):
    network = Network(model)

    found = take_exact_pixels(network)

    changed = floating_again(network)
    for image in tiny.images():
        wanted = tiny.session(model).run(None, {"image": image[None]})[0]
        got = tiny.session(changed).run(None, {"image": image[None]})[0]
        np.testing.assert_allclose(got, wanted, atol=1e-4 * np.ptp(wanted))
    assert [activation.step for activation in found.values()] == [1.0]


def test_a_graph_without_normalization_keeps_its_input(tiny):
    model = tiny.model()
    for node in list(model.graph.node):
        if node.op_type == "Sub":
            node.op_type = "Add"

    assert take_exact_pixels(Network(model)) == {}
