"""The graph as Gst-nvinfer can feed it: planes of floats in, and out what its parsers read."""

import onnx
from onnx import TensorProto, helper

from segdeploy.artifacts import Graph
from segdeploy.deepstream.configuration import NvinferOutput
from segdeploy.errors import SegdeployError
from segdeploy.graph import attribute, drop_unread, read_model, strip_traces, up_to
from segdeploy.spec import Size

TO_PIXELS, TO_PLANES = [0, 2, 3, 1], [0, 3, 1, 2]


def network_for_nvinfer(graph: Graph, output: NvinferOutput, size: Size) -> onnx.ModelProto:
    """A labels graph that takes (N, 3, H, W) float32 RGB, 0..255 as a camera gives it.

    nvinfer writes float32 planes into the memory of its network's input, of whatever type that is.
    segdeploy's graphs take uint8 pixels and cast them to float32 before they compute, which changes
    no value: with floats coming in, nothing behind the cast is touched.

    Returns:
        A model with the output `labels` (N, H, W) int32, or `probabilities` (N, classes, H, W)
        float32, the softmax of the logits that are resized already.
    """
    model = read_model(graph.path)
    best = next((node for node in model.graph.node if node.op_type == "ArgMax"), None)
    if best is None:
        raise SegdeployError(f"{graph.path}: has no ArgMax; wanted a graph that makes labels")
    wanted = best.output[0] if output is NvinferOutput.LABELS else best.input[0]
    network = up_to(model, [wanted])
    batch = graph.manifest.batch or "batch"
    if output is NvinferOutput.LABELS:
        _return_labels(network.graph, wanted, [batch, *size])
    else:
        planes = len(graph.manifest.classes)
        _return_probabilities(network.graph, wanted, [batch, planes, *size])
    _take_planes(network.graph, [batch, 3, *size])
    strip_traces(network)
    try:
        onnx.checker.check_model(network, full_check=True)
    except onnx.shape_inference.InferenceError as error:
        raise SegdeployError(
            f"{graph.path}: is not the network that its manifest describes "
            f"({str(error).splitlines()[0]})",
            hint="export it again",
        ) from error
    return network


def _return_labels(graph: onnx.GraphProto, ids: str, shape: list[int | str]) -> None:
    """As int32, which every version of nvinfer knows; uint8 came with DeepStream 8.0."""
    name = str(NvinferOutput.LABELS)
    graph.node.append(helper.make_node("Cast", [ids], [name], to=TensorProto.INT32))
    graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.INT32, shape))


def _return_probabilities(graph: onnx.GraphProto, scores: str, shape: list[int | str]) -> None:
    """In float32, whatever the network computes in: nvinfer's own parser reads nothing else."""
    name, floats = str(NvinferOutput.PROBABILITIES), "scores_float32"
    graph.node.append(helper.make_node("Cast", [scores], [floats], to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Softmax", [floats], [name], axis=1))
    graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _take_planes(graph: onnx.GraphProto, shape: list[int | str]) -> None:
    """Pixels are made of the planes, and are gone where the graph makes planes of them again."""
    planes, pixels = graph.input[0].name, f"{graph.input[0].name}_hwc"
    _rename(graph, {planes}, pixels)
    graph.input[0].CopyFrom(helper.make_tensor_value_info(planes, TensorProto.FLOAT, shape))
    cast = _made_of(graph, {pixels}, "Cast", "to", TensorProto.FLOAT)
    back = _made_of(graph, cast, "Transpose", "perm", TO_PLANES)
    _rename(graph, back, planes)
    graph.node.insert(0, helper.make_node("Transpose", [planes], [pixels], perm=TO_PIXELS))
    drop_unread(graph)


def _made_of(
    graph: onnx.GraphProto, read: set[str], op_type: str, name: str, value: object
) -> set[str]:
    """What the nodes of one kind, with this value of an attribute, make of these tensors."""
    return {
        node.output[0]
        for node in graph.node
        if node.op_type == op_type and node.input[0] in read and attribute(node, name) == value
    }


def _rename(graph: onnx.GraphProto, names: set[str], name: str) -> None:
    for node in graph.node:
        for place, read in enumerate(node.input):
            if read in names:
                node.input[place] = name
