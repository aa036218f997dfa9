"""What is read off a build log; the lines are TensorRT's, shortened."""

from pathlib import Path

import pytest

from segdeploy.engine.layers import (
    Convolution,
    by_precision,
    check_asked,
    parse_layers,
    prove_precision,
)
from segdeploy.errors import SegdeployError
from segdeploy.spec import Precision

GRAPH = Path("model.onnx")
FORMAT = "Format: (NHWC) Channel major format"
# TensorRT-RTX 1.7.1.116, an FCN in INT8 with floating depthwise convolutions.
RTX = f"""Layers:
Name: __myl_CastTranAddMul_myl0_0, LayerType: kgen, Inputs: [ {{ Name: image, Dimensions: \
[1,512,1024,3], Strides: [1572864,3072,3,1], StrideOrder: [3,2,1,0], Datatype: UInt8, Format: \
(Linear) Row major linear format }}], Constants: [], Outputs: [ {{ Name: t1, Dimensions: \
[1,3,512,1024], Datatype: Int8, {FORMAT} }}], TacticName: t, StreamId: 0, Metadata: \
[ONNX Layer: node__to_copy][ONNX Layer: node_Conv_835]
Name: node_Conv_835_myl0_2, LayerType: correlation, Inputs: [ {{ Name: t2, Dimensions: \
[1,4,512,1024], Datatype: Int8, {FORMAT} }}], Constants: [ {{ Name: c, Dimensions: [32,4,3,3], \
Datatype: Int8, {FORMAT} }}], Outputs: [ {{ Name: t3, Dimensions: [1,32,256,512], \
Datatype: Float, {FORMAT} }}], TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: \
[ONNX Layer: node_Conv_835][ONNX Layer: div_DequantizeLinear]
Name: node_Conv_838_myl0_4, LayerType: correlation, Inputs: [ {{ Name: t4, Dimensions: \
[1,32,256,512], Datatype: Float, {FORMAT} }}], Constants: [], Outputs: [ {{ Name: t5, \
Dimensions: [1,32,256,512], Datatype: Float, {FORMAT} }}], TacticName: __myelin_CASK_STUB, \
StreamId: 0, Metadata: [ONNX Layer: node_Conv_838][ONNX Layer: n4_2]
Name: sh, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [ {{ Name: t6, \
Dimensions: [4], Datatype: Int64, {FORMAT} }}], TacticName: , StreamId: 0, Metadata:
Name: __myl_FcRelu_myl0_78, LayerType: runtime_fusion, Inputs: [ {{ Name: t7, Dimensions: \
[1,320,1], Datatype: Half, {FORMAT} }}], Constants: [], Outputs: [ {{ Name: t8, Dimensions: \
[1,512,1], Datatype: Half, Format: (Transposed) Transposed format }}], TacticName: , \
StreamId: 2, Metadata: [ONNX Layer: node_Conv_1193]

I/O Tensors:
 Name: image, IOMode: Input, DataType: UInt8, Dimensions: [1,512,1024,3], Location: Device
"""
# TensorRT 10 (datatype alone) and 9 (inside the format), without and with int8.
CASK = """Layers:
Name: /features.0/Conv + /features.1/Relu, LayerType: CaskConvolution, Inputs: [ { Name: \
Reformatted Input, Location: Device, Dimensions: [1,3,224,224], Format/Datatype: Half }], \
Outputs: [ { Name: o, Location: Device, Dimensions: [1,64,55,55], Format/Datatype: Half }], \
ParameterType: Convolution, Groups: 1, Weights: {"Type": "Half", "Count": 23232}, Metadata:
Name: conv1 + relu1, LayerType: CaskConvolution, Inputs: [ { Name: i, Location: Device, \
Dimensions: [6,64,120,184], Format/Datatype: Channel major FP32 format where channel % 4 == 0 }], \
Outputs: [ { Name: o, Location: Device, Dimensions: [6,64,120,184], Format/Datatype: Half }]
Name: conv2, LayerType: CaskConvolution, Inputs: [ { Name: i, Location: Device, Dimensions: \
[1,64,56,56], Format/Datatype: Thirty-two wide channel vectorized row major Int8 format }], \
Outputs: [ { Name: o, Location: Device, Dimensions: [1,64,56,56], Format/Datatype: Half }]
"""


def test_every_layer_is_read_and_nothing_else() -> None:
    layers = parse_layers(RTX)

    assert [layer.kind for layer in layers] == [
        "kgen", "correlation", "correlation", "shape_call", "runtime_fusion",
    ]  # fmt: skip
    assert layers[0].origins == ("node__to_copy", "node_Conv_835")
    assert [layer.precision for layer in layers] == [
        None, Precision.INT8, Precision.FP32, None, Precision.FP16,
    ]  # fmt: skip


def test_the_older_ways_to_name_a_datatype_are_read() -> None:
    precisions = [layer.precision for layer in parse_layers(CASK)]

    assert precisions == [Precision.FP16, Precision.FP32, Precision.INT8]


def test_a_fused_layer_proves_the_convolution_in_its_name() -> None:
    prove_precision(GRAPH, parse_layers(CASK), [Convolution("/features.0/Conv", Precision.FP16)])


def test_convolutions_are_told_apart_by_what_the_engine_runs() -> None:
    asked = [
        Convolution("node_Conv_835", Precision.INT8),
        Convolution("node_Conv_838", Precision.FP32),
        Convolution("node_Conv_1193", Precision.FP16),
    ]

    prove_precision(GRAPH, parse_layers(RTX), asked)

    assert by_precision(parse_layers(RTX), asked) == {
        Precision.INT8: ("node_Conv_835",),
        Precision.FP32: ("node_Conv_838",),
        Precision.FP16: ("node_Conv_1193",),
    }


def test_a_convolution_in_another_precision_is_an_error() -> None:
    asked = [Convolution("node_Conv_838", Precision.INT8)]

    with pytest.raises(SegdeployError, match="node_Conv_838 in int8, the engine runs it in Float"):
        prove_precision(GRAPH, parse_layers(RTX), asked)


def test_a_convolution_that_the_log_does_not_show_is_not_proved() -> None:
    with pytest.raises(SegdeployError, match="no kernel for the convolution lost"):
        prove_precision(GRAPH, parse_layers(RTX), [Convolution("lost", Precision.FP32)])


@pytest.mark.parametrize(
    ("found", "expected", "problem"),
    [
        (["fp32", "fp16"], Precision.FP16, "has 1 fp16, 1 fp32 convolutions; wanted fp16"),
        (["fp32"], Precision.INT8, "has 1 fp32 convolutions; wanted int8"),
        ([], Precision.FP32, "has no convolutions; wanted fp32"),
    ],
)
def test_a_graph_in_another_precision_is_refused(
    found: list[str], expected: Precision, problem: str
) -> None:
    convolutions = [Convolution(f"c{i}", Precision(name)) for i, name in enumerate(found)]

    with pytest.raises(SegdeployError, match=problem):
        check_asked(GRAPH, convolutions, expected)


def test_an_int8_graph_may_keep_convolutions_in_floating_point() -> None:
    kept = [Convolution("first", Precision.INT8), Convolution("depthwise", Precision.FP32)]

    check_asked(GRAPH, kept, Precision.INT8)
