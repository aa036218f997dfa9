"""Graphs are read with suspicion, and written with a manifest and nothing of the machine."""

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segdeploy.artifacts import Manifest
from segdeploy.errors import SegdeployError
from segdeploy.graph import (
    OPSET,
    TensorFacts,
    convolved,
    inputs_and_outputs,
    logits_tensor,
    operator_counts,
    read_graph,
    read_model,
    save_graph,
    taking_floats,
    up_to,
    with_outputs,
)
from segdeploy.spec import ClassSet, Method

MANIFEST = Manifest("small", Method.FCN, ClassSet.numbered(2), size=None, batch=None)
FLOAT = TensorProto.FLOAT


def make_model(
    nodes: Iterable[onnx.NodeProto], output: tuple[str, int, list[int | str]]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", 2, 4, 4])],
        [helper.make_tensor_value_info(*output)],
        [
            numpy_helper.from_array(np.ones((1, 2, 1, 1), np.float32), "w"),
            numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


@pytest.fixture
def logits_model() -> onnx.ModelProto:
    """A product, named `logits`, and nothing after it."""
    return make_model(
        [helper.make_node("Mul", ["x", "w"], ["logits"])], ("logits", FLOAT, ["batch", 2, 4, 4])
    )


@pytest.fixture
def labels_model() -> onnx.ModelProto:
    """The same, then a resize and the best class."""
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["m"]),
        helper.make_node("Resize", ["m", "", "scales"], ["r"], mode="linear"),
        helper.make_node("ArgMax", ["r"], ["labels"], axis=1, keepdims=0),
    ]
    return make_model(nodes, ("labels", TensorProto.INT64, ["batch", 8, 8]))


def test_a_graph_comes_back_with_its_manifest(tmp_path, logits_model):
    saved = save_graph(logits_model, MANIFEST, tmp_path / "a.onnx")

    assert read_graph(tmp_path / "a.onnx") == saved
    assert list(tmp_path.iterdir()) == [tmp_path / "a.onnx"]


def test_saving_strips_what_exporters_leave_behind(tmp_path, logits_model):
    node, graph = logits_model.graph.node[0], logits_model.graph
    for part in (node, graph, graph.initializer[0], graph.input[0]):
        part.doc_string = "File /home/somebody/net.py, line 3"
    for part in (logits_model, node, graph):
        entry = part.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.stack_trace", "/home/somebody/net.py"

    save_graph(logits_model, MANIFEST, tmp_path / "a.onnx")

    data = (tmp_path / "a.onnx").read_bytes()
    assert b"somebody" not in data
    assert b"stack_trace" not in data


def test_a_graph_that_does_not_hold_together_is_not_written(tmp_path, logits_model):
    logits_model.graph.node[0].input[1] = "nowhere"

    with pytest.raises(onnx.checker.ValidationError):
        save_graph(logits_model, MANIFEST, tmp_path / "a.onnx")

    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_others_is_read_as_a_model_only(tmp_path, logits_model):
    onnx.save(logits_model, tmp_path / "foreign.onnx")

    assert read_model(tmp_path / "foreign.onnx") == logits_model
    with pytest.raises(SegdeployError, match=r"foreign\.onnx: carries no segdeploy manifest"):
        read_graph(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\xff" * 100, b"PK\x03\x04"])
def test_what_is_no_onnx_file_is_refused(tmp_path, data):
    (tmp_path / "a.onnx").write_bytes(data)

    with pytest.raises(SegdeployError, match=r"a\.onnx: is not a valid ONNX file"):
        read_model(tmp_path / "a.onnx")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SegdeployError, match=r"none\.onnx: no such file"):
        read_graph(tmp_path / "none.onnx")


def test_a_folder_is_no_graph(tmp_path):
    with pytest.raises(SegdeployError, match="is not a valid ONNX file"):
        read_model(tmp_path)


def test_damaged_graphs_end_in_an_error_for_users(tmp_path, logits_model):
    path, dice, refused = tmp_path / "a.onnx", random.Random(3), 0
    save_graph(logits_model, MANIFEST, path)
    whole = path.read_bytes()

    for _ in range(500):
        data = bytearray(whole)
        data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        try:
            read_graph(path)
        except SegdeployError:
            refused += 1

    assert refused > 100


def external(tensor: onnx.TensorProto) -> None:
    """Let the tensor's values lie in a file of the reader's machine."""
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"


def test_weights_in_another_file_are_refused(tmp_path, logits_model):
    external(logits_model.graph.initializer[0])
    (tmp_path / "a.onnx").write_bytes(logits_model.SerializeToString())

    with pytest.raises(SegdeployError, match="keeps weights in another file"):
        read_model(tmp_path / "a.onnx")


def test_a_constant_in_another_file_is_refused(tmp_path, logits_model):
    value = numpy_helper.from_array(np.ones(4, np.float32), "c")
    external(value)
    logits_model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=value))
    (tmp_path / "a.onnx").write_bytes(logits_model.SerializeToString())

    with pytest.raises(SegdeployError, match="keeps weights in another file"):
        read_model(tmp_path / "a.onnx")


def test_facts_name_types_and_dynamic_dims(labels_model):
    inputs, outputs = inputs_and_outputs(labels_model)

    assert inputs == [TensorFacts("x", "float", ("batch", 2, 4, 4))]
    assert outputs == [TensorFacts("labels", "int64", ("batch", 8, 8))]
    assert str(inputs[0]) == "x: float (batch, 2, 4, 4)"


def test_the_logits_of_a_labels_graph_come_before_its_resize(labels_model):
    assert logits_tensor(labels_model) == "m"


def test_the_logits_of_a_logits_graph_are_its_output(logits_model):
    assert logits_tensor(logits_model) == "logits"


def test_labels_that_come_of_something_else_are_refused(labels_model):
    del labels_model.graph.node[1]
    labels_model.graph.node[1].input[0] = "m"

    with pytest.raises(SegdeployError, match="ArgMax is fed by Mul"):
        logits_tensor(labels_model)


def test_exposed_tensors_come_after_the_outputs_of_a_copy(labels_model):
    exposed = with_outputs(labels_model, ["m", "labels"])

    assert [output.name for output in exposed.graph.output] == ["labels", "m"]
    assert [output.name for output in labels_model.graph.output] == ["labels"]


def test_operators_are_counted_most_frequent_first(labels_model):
    labels_model.graph.node.append(helper.make_node("Mul", ["x", "x"], ["square"]))

    assert list(operator_counts(labels_model).items()) == [("Mul", 2), ("Resize", 1), ("ArgMax", 1)]


def test_saving_replaces_the_manifest_of_before(tmp_path: Path, logits_model):
    save_graph(logits_model, MANIFEST, tmp_path / "a.onnx")
    again = read_model(tmp_path / "a.onnx")

    other = Manifest("other", Method.FCN, ClassSet.numbered(3))
    save_graph(again, other, tmp_path / "b.onnx")

    assert read_graph(tmp_path / "b.onnx").manifest == other


def test_a_graph_up_to_a_tensor_has_no_more_than_it_needs():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["x"], ["aside"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    model = make_model(nodes, ("y", FLOAT, ["batch", 1, 4, 4]))

    part = up_to(model, ["b", "a", "b"])

    assert [node.op_type for node in part.graph.node] == ["Conv", "Relu"]
    assert [output.name for output in part.graph.output] == ["b", "a"]
    assert [tensor.name for tensor in part.graph.initializer] == ["w"]
    assert len(model.graph.node) == 4


@pytest.mark.parametrize(("weight", "output"), [("w", "a"), ("v", "b"), ("u", None)])
def test_a_convolution_is_found_by_its_weight(weight, output):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["x", "v.scaled"], ["b"]),
    ]
    model = make_model(nodes, ("b", FLOAT, ["batch", 1, 4, 4]))

    assert convolved(model, weight) == output


def test_a_graph_can_take_pixels_that_are_no_bytes():
    model = make_model([helper.make_node("Neg", ["x"], ["y"])], ("y", FLOAT, ["batch", 2, 4, 4]))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8

    changed = taking_floats(model)

    assert changed.graph.input[0].type.tensor_type.elem_type == FLOAT
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
