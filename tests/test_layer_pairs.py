"""Convolutions are found again in rewritten, quantized and strange graphs."""

import pytest
from onnx import TensorProto, helper

from segdeploy.graph import read_model
from segdeploy.layer_pairs import pair_layers
from segdeploy.spec import Method, Tuning


@pytest.fixture
def graphs(exported):
    return {
        tuning: read_model(exported(Method.DEEPLABV3PLUS, tuning=tuning).path)
        for tuning in (Tuning.PLAIN, Tuning.ANY)
    }


def convolutions(model) -> list[str]:
    return [node.output[0] for node in model.graph.node if node.op_type == "Conv"]


def test_a_rewritten_graph_has_the_layers_of_a_plain_one(graphs):
    pairs = pair_layers(graphs[Tuning.PLAIN], graphs[Tuning.ANY])

    names = [pair.name for pair in pairs]
    assert names[0] == "backbone.conv1"
    assert names[-1] == "decode_head.conv_seg"
    assert len(set(names)) == len(names) > 60
    missing = set(convolutions(graphs[Tuning.PLAIN])) - {pair.reference for pair in pairs}
    assert len(missing) == 1  # the pooled branch, folded into a product of matrices


def test_a_graph_has_its_own_layers(graphs):
    model = graphs[Tuning.ANY]

    pairs = pair_layers(model, model)

    assert [pair.reference for pair in pairs] == convolutions(model)
    assert all(pair.reference == pair.other for pair in pairs)


def test_layers_without_names_are_paired_in_their_order(graphs):
    model, strange = graphs[Tuning.ANY], type(graphs[Tuning.ANY])()
    strange.CopyFrom(model)
    names = {name: f"t{k}" for k, node in enumerate(strange.graph.node) for name in node.output}
    names |= {tensor.name: f"w{k}" for k, tensor in enumerate(strange.graph.initializer)}
    for node in strange.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for tensor in strange.graph.initializer:
        tensor.name = names[tensor.name]

    pairs = pair_layers(model, strange)

    assert [pair.other for pair in pairs] == convolutions(strange)
    assert pairs[0].name == "backbone.conv1"


def test_other_numbers_are_no_reason_to_mix_layers_up(graphs):
    model, other = graphs[Tuning.ANY], type(graphs[Tuning.ANY])()
    other.CopyFrom(model)
    tensors = convolutions(other)
    shifted = dict(zip(tensors, [*tensors[1:], "last"], strict=True))
    for node in other.graph.node:
        node.input[:] = [shifted.get(name, name) for name in node.input]
        node.output[:] = [shifted.get(name, name) for name in node.output]

    pairs = pair_layers(model, other)

    assert all(pair.other == shifted[pair.reference] for pair in pairs)


def test_graphs_with_nothing_in_common_have_no_pairs():
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])]
    )

    assert pair_layers(helper.make_model(graph), helper.make_model(graph)) == ()
