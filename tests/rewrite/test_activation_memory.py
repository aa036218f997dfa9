"""Memory between kernels, counted by hand, and held against what TensorRT-RTX takes."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from segdeploy.graph import read_model
from segdeploy.rewrite.activation_memory import SCRATCH_BYTES, activation_bytes
from segdeploy.rewrite.known_shapes import with_known_shapes
from segdeploy.spec import Method, Size

SHAPE = (1, 4, 8, 3)  # of the images: 32 pixels
PIXEL = 32 * 4  # bytes of one channel in float32


def conv(source, result, weight="w"):
    return helper.make_node("Conv", [source, weight], [result])


HEAD = [
    helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.FLOAT),
    helper.make_node("Transpose", ["cast"], ["chw"], perm=[0, 3, 1, 2]),
]


@pytest.mark.parametrize(
    ("nodes", "floats"),
    [
        pytest.param(  # chw and a; the output is the caller's
            [conv("chw", "a", "first"), conv("a", "y")], 3 + 8, id="a-chain"
        ),
        pytest.param(  # clipped by the convolution that makes it
            [
                conv("chw", "a", "first"),
                helper.make_node("Relu", ["a"], ["b"]),
                conv("b", "c"),
                conv("c", "y"),
            ],
            8 + 8,
            id="an-activation-takes-nothing",
        ),
        pytest.param(  # a lives until it is added; d is added to it by its own kernel
            [
                conv("chw", "a", "first"),
                conv("a", "b"),
                conv("b", "c"),
                conv("c", "d"),
                helper.make_node("Add", ["a", "d"], ["e"]),
                conv("e", "y"),
            ],
            8 + 8 + 8,
            id="a-residual-lives-on",
        ),
        pytest.param(  # both parts lie in the joined tensor from the first on
            [
                conv("chw", "a", "first"),
                conv("a", "b"),
                helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
                conv("c", "y", "joined"),
            ],
            3 + 16,
            id="parts-are-written-in-place",
        ),
        pytest.param(
            [
                conv("chw", "a", "first"),
                helper.make_node("Reshape", ["a", "flat"], ["b"]),
                helper.make_node("MatMul", ["m", "b"], ["y"]),
            ],
            3 + 8,
            id="a-view-takes-nothing",
        ),
    ],
)
def test_tensors_take_memory_while_somebody_reads_them(small, normal, nodes, floats):
    constants = {
        "first": normal(8, 3, 1, 1),
        "w": normal(8, 8, 1, 1),
        "joined": normal(8, 16, 1, 1),
        "m": normal(5, 8),
        "flat": np.array([0, 8, -1]),
    }
    used = {name for node in nodes for name in node.input}
    model = small.build(
        [*HEAD, *nodes],
        {name: value for name, value in constants.items() if name in used},
        shape=SHAPE,
        dtype=TensorProto.UINT8,
    )

    found = activation_bytes(model, SHAPE, rounds_apart=False)

    assert found == floats * PIXEL + SCRATCH_BYTES


@pytest.mark.parametrize(
    ("rounds_apart", "bytes_of_result"), [pytest.param(True, 4, id="apart"), (False, 1)]
)
def test_int8_is_rounded_by_the_convolution_or_by_a_kernel_of_its_own(
    small, normal, rounds_apart, bytes_of_result
):
    model = small.build(
        [
            *HEAD,
            helper.make_node("QuantizeLinear", ["chw", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"]),
            conv("dq", "a", "first"),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("QuantizeLinear", ["b", "s", "z"], ["bq"]),
            helper.make_node("DequantizeLinear", ["bq", "s", "z"], ["bdq"]),
            conv("bdq", "y"),
        ],
        {
            "first": normal(800, 3, 1, 1),
            "w": normal(8, 800, 1, 1),
            "s": np.float32(1),
            "z": np.int8(0),
        },
        shape=SHAPE,
        dtype=TensorProto.UINT8,
    )

    found = activation_bytes(model, SHAPE, rounds_apart=rounds_apart)

    integers = 32 * 800
    while_convolving = 32 * 3 + integers * bytes_of_result + SCRATCH_BYTES
    assert found == while_convolving


def test_convolutions_of_the_same_tensor_have_their_scratch_at_the_same_time(small, normal):
    model = small.build(
        [
            *HEAD,
            conv("chw", "a", "first"),
            conv("chw", "b", "first"),
            helper.make_node("Concat", ["a", "b"], ["y"], axis=1),
        ],
        {"first": normal(8, 3, 1, 1)},
        shape=SHAPE,
        dtype=TensorProto.UINT8,
    )

    found = activation_bytes(model, SHAPE, rounds_apart=False)

    assert found == 3 * PIXEL + 2 * SCRATCH_BYTES  # a and b lie in the output


@pytest.mark.parametrize("method", [Method.PSPNET, Method.DEEPLABV3])
def test_an_open_graph_takes_what_a_fixed_one_does(exported, method):
    size = Size(64, 96)
    fixed, opened = (
        read_model(exported(method, **axes).path)
        for axes in ({"size": size}, {"size": None, "batch": None})
    )
    shape = (1, *size, 3)

    one, other = (activation_bytes(model, shape, rounds_apart=True) for model in (fixed, opened))
    many = activation_bytes(opened, (4, *size, 3), rounds_apart=True)

    assert other == pytest.approx(one, rel=1e-3)  # which normalizes by constants
    assert many > other


@pytest.mark.parametrize("method", [Method.PSPNET, Method.DEEPLABV3])
def test_pooling_of_any_size_hides_no_shape(exported, method):
    model = read_model(exported(method, size=None, batch=None).path)

    known = with_known_shapes(model, (2, 161, 227, 3))

    names = [name for node in known.nodes for name in node.output]
    assert [name for name in names if name not in known.shapes] == []
    assert known.shapes[known.outputs[0]] == (2, 161, 227)
